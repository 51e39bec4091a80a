/* A rescue always ends open: one person asks for an EMERGENCY, and while the lock has power it opens, whatever a flood of
   wrong grants, a dead battery gauge, a broken flash, lost messages, cut links or a second gateway do meanwhile. */
#define LIMIT 2 /* refusals until the lock throttles; five in truth */
#define DROPS 2 /* messages the network loses */
#define CUTS 2  /* challenges that age or go with their link */
/* what a lock might wrongly refuse a rescue for */
#ifdef BUG_BATTERY
#define NO_EXCUSE (!low)
#endif
#ifdef BUG_FLASH
#define NO_EXCUSE (!broken)
#endif
#ifdef BUG_LOCK_OUT
#define NO_EXCUSE (refused < LIMIT)
#endif
#ifdef BUG_SHARED_SLOT
#define NO_EXCUSE (refused < LIMIT || slot)
#endif
#ifndef NO_EXCUSE
#define NO_EXCUSE true
#endif
bit asked, open, low, broken, slot = 1, power = 1;
byte cur, heard, next = 1, refused, drops, cuts; /* the lock's challenge for the rescuer's link; what the gateway heard */

active proctype person() { asked = 1 }

active proctype hazard() { do
 :: low = 1 :: broken = 1
 :: cur != 0 && cuts < CUTS -> atomic { cur = 0; cuts++ }
 :: refused < LIMIT -> refused++ /* a wrong grant */
 :: refused == LIMIT && slot -> slot = 0 /* the flood takes the one evaluation of the next five seconds */
 :: power -> atomic { power = 0; cur = 0 }
 :: !power -> power = 1
 od }

active proctype five_seconds() { do :: !slot -> slot = 1 od }

active proctype other_gateway() { do /* it greets the lock again and again, on a link of its own */
 :: power ->
#ifdef BUG_ONE_CHALLENGE
   atomic { cur = next; next = 3 - next }
#else
   skip
#endif
 od }

active proctype gateway() {
ask: if :: asked && power -> atomic { cur = next; heard = cur; next = 3 - next } fi; /* hello */
 if
 :: drops < DROPS -> drops++; /* lost on the way; no report in time, so it asks again */
#ifdef BUG_NO_RETRY
   goto over
#endif
 :: atomic { power && cur == heard && NO_EXCUSE -> cur = 0; open = 1 }; goto over
 :: else -> skip /* refused */
 fi;
 goto ask;
over: skip }

ltl rescued { [] (asked -> <> (open || !power)) }
