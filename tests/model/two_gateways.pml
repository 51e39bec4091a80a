/* Two gateways, one lock: each link has its own challenge, and one accepted grant burns them all. Anyone carries any grant
   over any link, and a link may be lost at any moment. */
#define NC 4 /* challenges the lock ever makes */
#define NG 3 /* grants ever signed */
byte cur[2], made, ng, epoch, l, g;
byte answers[NG], signed_in[NG], asked_on[NG];
active proctype world() { do
 :: atomic { if :: l = 0 :: l = 1 fi; made < NC -> made++; cur[l] = made; l = 0 } /* hello */
 :: atomic { if :: l = 0 :: l = 1 fi; (ng < NG && cur[l] != 0) -> /* the gateway on link l has its grant signed */
   answers[ng] = cur[l]; signed_in[ng] = epoch; asked_on[ng] = l; ng++; l = 0 }
 :: atomic { if :: l = 0 :: l = 1 fi; cur[l] = 0; l = 0 } /* link lost */
 :: atomic { if :: l = 0 :: l = 1 fi; if :: g = 0 :: g = 1 :: g = 2 fi; g < ng ->
#ifdef BUG_ANY_LINK
   (answers[g] == cur[0] || answers[g] == cur[1]) ->
#else
   (cur[l] != 0 && answers[g] == cur[l]) ->
#endif
   assert(asked_on[g] == l); /* B1 only over the link whose hello it answers */
   assert(signed_in[g] == epoch); /* B2 nothing signed before an opening acts after it */
   epoch++;
#ifdef BUG_BURN_OWN_ONLY
   cur[l] = 0;
#else
   cur[0] = 0; cur[1] = 0;
#endif
   l = 0; g = 0 }
 od }
