/* Nobody opens without a grant: the network replays, reorders, drops, cross-delivers; a site key is stolen.
   Two locks, two challenges each, two grants; one lifetime is one tick. What must hold stands at the assertions A1-A5. */
#define NL 2
#define NC 2
#define NG 2
#define TTL 1
#define TMAX 3
mtype = { PREP, ENTRY, EMERGENCY };
typedef Grant { byte lock, ch, kind, slot; bit used };
Grant net[NG]; byte ng, cur[NL], age[NL], ctr[NL], now, rage, l, g; bit approved, revoked, tested;
active proctype world() { do
 :: d_step { !approved -> approved = 1 } :: d_step { approved && !tested -> tested = 1 }
 :: d_step { approved && !revoked -> revoked = 1; rage = 0 }
 :: d_step { now < TMAX -> now++; /* one tick of every lock */
   if :: revoked -> rage++ :: else fi; l = 0;
   do :: l < NL ->
     if :: cur[l] != 0 -> age[l]++;
#ifndef BUG_NOTTL
   if :: age[l] > TTL -> cur[l] = 0; age[l] = 0 :: else fi
#endif
   :: else fi; l++
     :: else -> break od; l = 0 }
 :: atomic { if :: l = 0 :: l = 1 fi; ctr[l] < NC -> /* hello */
   ctr[l]++; cur[l] = ctr[l]; age[l] = 0; l = 0 }
 :: atomic { if :: l = 0 :: l = 1 fi; /* issuer signs */
   (approved && !revoked && ng < NG && cur[l] != 0) ->
   net[ng].lock = l; net[ng].ch = cur[l]; net[ng].slot = 0;
   if :: net[ng].kind = PREP
#ifdef BUG_UNTESTED
     :: net[ng].kind = ENTRY
#endif
     :: tested -> net[ng].kind = ENTRY fi; ng++; l = 0 }
 :: atomic { if :: l = 0 :: l = 1 fi; /* stolen site key signs anything */
   (ng < NG && cur[l] != 0) ->
   net[ng].lock = l; net[ng].ch = cur[l]; net[ng].slot = 2;
   if :: net[ng].kind = ENTRY :: net[ng].kind = EMERGENCY fi; ng++; l = 0 }
 :: atomic { if :: l = 0 :: l = 1 fi; cur[l] = 0; age[l] = 0; /* power or link lost */
#ifdef BUG_COUNTER_IN_RAM
   ctr[l] = 0;
#endif
   l = 0 }
 :: atomic { if :: l = 0 :: l = 1 fi; if :: g = 0 :: g = 1 fi; g < ng; /* anyone delivers anything */
#ifndef BUG_NOLOCK
   net[g].lock == l;
#endif
#ifndef BUG_REPLAY
   (cur[l] != 0 && net[g].ch == cur[l]);
#endif
#ifndef BUG_SLOT_ANY_KIND
   (net[g].slot == 0 || net[g].kind == EMERGENCY);
#endif
   assert(net[g].lock == l); assert(!net[g].used); /* A1 its own lock; A2 one grant, one opening */
   assert(net[g].kind == EMERGENCY || approved); assert(net[g].kind != ENTRY || tested); /* A3; A4 test before entry */
   assert(net[g].kind == EMERGENCY || !revoked || rage <= TTL); /* A5 revocation bites */
   net[g].used = 1;
#ifndef BUG_NOCONSUME
   cur[l] = 0; age[l] = 0;
#endif
   l = 0; g = 0 }
 od }
