/* Nobody is shut in: whatever the door, the people and the orders do, the bolt is thrown only over an empty, closed space. */
byte inside, t;
bit bolt = 1, door, held, hello, order, armed; /* door 1 = open; held = bolt kept retracted */
active proctype world() { do
 :: atomic { bolt -> bolt = 0; held = 1 } /* any opening grant, inside release */
 :: atomic { !bolt && !door -> door = 1;
#ifndef BUG_DOOR_KEEPS_ORDER
   hello = 0; order = 0; armed = 0; t = 0
#endif
    }
 :: door = 0 :: atomic { door && inside < 2 -> inside++ } :: atomic { door && inside > 0 -> inside-- }
 :: atomic { held && !hello ->
#ifndef BUG_NO_DOOR_CHECK
   !door;
#endif
   hello = 1; order = 0 }
 :: atomic { hello && !order ->
#ifndef BUG_SIGN_OCCUPIED
   inside == 0;
#endif
   order = 1 }
 :: atomic { order -> armed = 1; t = 0; order = 0; hello = 0 }
 :: atomic { armed -> t++; if :: t == 2 -> armed = 0; t = 0 :: else fi }
 :: atomic { armed -> bolt = 1; held = 0; armed = 0; t = 0; /* press */
   assert(!door); assert(inside == 0) }
 od }
