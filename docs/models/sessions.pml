/* Which of several sessions is sent on (PROTOCOL §7), between two nodes that both have traffic all the time.
 *
 * Faults, each from a budget: packets lost, a recorded hello replayed, one side restarted (it forgets everything), timers of one
 * side that do not run for a while. Packets overtake each other freely. Timers fire when nothing is in flight: they are slow
 * against the network, and what a timer too early would do, a lost packet does as well.
 *
 * Node 1 holds the larger key. A session is made by the answer to a hello; `OFFER` is answer and offer together. A hello that
 * was recorded in an earlier attempt carries the tag STALE. Session numbers are used again when nobody knows them any more.
 *
 * Checked, with traffic all the time: once the budgets are spent, both nodes for ever send on one and the same session, confirmed
 * at both (`converges`). With -DIDLE nodes may have nothing to send, and budgets are 0: no packet is ever sent on a session that
 * the other side does not hold (the assertion where data arrives).
 */
#ifndef LOSSES
#define LOSSES 2
#endif
#ifndef REPLAYS
#define REPLAYS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#ifndef PAUSES
#define PAUSES 1
#endif

#ifdef IDLE                       /* erasure and keepalive, both due after 10 s, may come in either order */
#define IDLE_ERASES true
#else                             /* user data is sent at once, erasure waits */
#define IDLE_ERASES false
#endif

#define SESSIONS 7
#define NO 7                      /* no session */
#define STALE 3                   /* tag of a hello of an earlier attempt; the tags of live ones are 1 and 2 */

#define NONE 0
#define HALF 1                    /* R has answered and waits for the finish */
#define WAIT 2                    /* I has sent the finish and waits for the first packet in epoch 1 */
#define CONF 3

mtype = { HELLO, OFFER, FINISH, DATA, CLOSE, CLOSE_ACK };
chan net[2] = [5] of { mtype, byte, byte };       /* towards node d: packet, tag of the attempt, session */

byte state[14];                   /* of session s at node n: ST(n, s) */
#define ST(n, s) state[(n) * SESSIONS + (s)]
byte flying[SESSIONS];            /* packets under way that name the session */
byte attempt[2];                  /* tag of the own attempt without an answer; 0: none */
byte last_tag[2];
byte half_tag[2];                 /* tag of the hello behind the half-open session */
byte half[2] = NO;                /* the one half-open session (as R) */
byte wait[2] = NO;                /* the one unconfirmed session (as I) */
byte older[2] = NO, newer[2] = NO;/* the two confirmed ones, in the order in which they were confirmed here */
byte use[2] = NO;                 /* the confirmed session that is sent on */
bool silent[14];                  /* nothing arrived on the session for a round */
#define SILENT(n, s) silent[(n) * SESSIONS + (s)]
bool superseded[SESSIONS];        /* at node 0, told by node 1 */
bool leaving[SESSIONS];           /* at node 1: the close is not acknowledged yet */
bool owing[2];                    /* received since the last packet was sent: a keepalive will be due */
bool unanswered[2];               /* sent since something valid arrived */
byte losses, replays, restarts, pauses;

#define converged (use[0] != NO && use[0] == use[1] && ST(0, use[0]) == CONF && ST(1, use[0]) == CONF)

inline transmit(to, kind, tag, s) {
  if
  :: losses < LOSSES -> losses++; printf("%d: %e tag %d session %d is lost\n", 1 - (to), kind, tag, s)
  :: nfull(net[to]) -> printf("%d: sends %e tag %d session %d\n", 1 - (to), kind, tag, s); net[to]!kind(tag, s); if :: s != NO -> flying[s]++ :: else fi
  :: full(net[to]) -> skip
  fi
}

inline drop(n, s) {               /* the node forgets the session */
  printf("%d: forgets session %d\n", n, s);
  ST(n, s) = NONE;
  if :: n == 0 -> superseded[s] = false :: else -> leaving[s] = false fi
}

inline forget(n, s) { if :: s != NO -> drop(n, s); s = NO :: else fi }

inline fresh(s) {                 /* a number that nobody knows */
  s = 0;
  do
  :: s < SESSIONS && (ST(0, s) != NONE || ST(1, s) != NONE || flying[s] > 0) -> s++
  :: else -> break
  od;
  assert(s < SESSIONS)
}

inline choose(n) {                /* the session to send on: confirmed last, superseded ones left out */
  if
  :: newer[n] != NO && !superseded[newer[n]] -> use[n] = newer[n]
  :: !(newer[n] != NO && !superseded[newer[n]]) && older[n] != NO && !superseded[older[n]] -> use[n] = older[n]
  :: else -> use[n] = NO
  fi
}

inline confirm(n, s) {
  printf("%d: confirms session %d\n", n, s);
  ST(n, s) = CONF;
  if
  :: newer[n] != NO && older[n] != NO ->
#ifndef EVICT_OLDEST              /* what is not sent on makes room, whatever its age */
     if
     :: older[n] == use[n] -> drop(n, newer[n])
     :: else -> drop(n, older[n]); older[n] = newer[n]
     fi
#else
     drop(n, older[n]); older[n] = newer[n]
#endif
  :: newer[n] != NO && older[n] == NO -> older[n] = newer[n]
  :: else
  fi;
  newer[n] = s;
  SILENT(n, s) = IDLE_ERASES;
  owing[n] = true;
  if
  :: n == 0 -> superseded[s] = false; choose(0)
  :: n == 1 ->
#ifndef SILENT_LEAVE              /* the larger key says which session it leaves */
     if :: use[1] != NO && ST(1, use[1]) == CONF -> leaving[use[1]] = true; transmit(0, CLOSE, 0, use[1]) :: else fi;
#endif
     use[1] = s
  fi;
  attempt[n] = 0                  /* an own attempt without an answer ends */
}

inline sending(n, s) {            /* the session to send on, if any */
  s = use[n];
  if :: s == NO -> s = wait[n] :: else fi
}

inline start(n) {
  last_tag[n] = 3 - last_tag[n];
  attempt[n] = last_tag[n];
  if :: half_tag[1 - n] == last_tag[n] -> half_tag[1 - n] = STALE :: else fi;
  transmit(1 - n, HELLO, attempt[n], NO)
}

inline tick(n) {                  /* every timer of the node that is due */
  /* §4.4: half-open sessions live for 10 s, longer than the initiator waits */
  if
  :: half[n] != NO && ST(1 - n, half[n]) != WAIT -> forget(n, half[n])
  :: true
  fi;
  /* §7: what is not sent on is erased 10 s after the last packet */
  if
  :: older[n] != NO && older[n] != use[n] && SILENT(n, older[n]) -> forget(n, older[n])
  :: newer[n] != NO && newer[n] != use[n] && SILENT(n, newer[n]) -> forget(n, newer[n]); newer[n] = older[n]; older[n] = NO
  :: true
  fi;
  if :: older[n] != NO -> SILENT(n, older[n]) = true :: else fi;
  if :: newer[n] != NO -> SILENT(n, newer[n]) = true :: else fi;
  /* §4.5: the finish is repeated for 5 s */
  if
  :: wait[n] != NO && (ST(1 - n, wait[n]) == NONE || losses < LOSSES) ->
     if :: ST(1 - n, wait[n]) != NONE -> losses++ :: else fi;
     forget(n, wait[n]);
     if :: attempt[n] == 0 -> start(n) :: else fi
  :: wait[n] != NO && ST(1 - n, wait[n]) != NONE -> transmit(1 - n, FINISH, 0, wait[n])
  :: else
  fi;
  picked = 0;
  do
  :: n == 1 && picked < SESSIONS && leaving[picked] -> transmit(0, CLOSE, 0, picked); picked++
  :: n == 1 && picked < SESSIONS && !leaving[picked] -> picked++
  :: else -> break
  od;
  sending(n, picked);
  if
  :: attempt[n] != 0 -> transmit(1 - n, HELLO, attempt[n], NO)
  :: attempt[n] == 0 && (picked == NO || unanswered[n]) -> start(n)      /* §8.3 */
  :: else
  fi;
  if
  :: picked != NO -> transmit(1 - n, DATA, 0, picked); unanswered[n] = true; owing[n] = false
#ifdef IDLE
  :: !owing[n]
#endif
  :: picked == NO
  fi;
  picked = 0
}

proctype receiver(byte n) {
  byte tag, s;
  do
  :: atomic { net[n]??HELLO(tag, _) ->
       if
       :: half[n] != NO && half_tag[n] == tag -> skip                   /* §4.3: the stored answer again */
       :: else -> forget(n, half[n]); fresh(s); half[n] = s; half_tag[n] = tag; ST(n, s) = HALF
       fi;
       s = half[n];
       transmit(1 - n, OFFER, tag, s); tag = 0; s = 0 }
  :: atomic { net[n]??OFFER(tag, s) ->
       flying[s]--;
       if
       :: tag == attempt[n] -> attempt[n] = 0; forget(n, wait[n]); wait[n] = s; ST(n, s) = WAIT; transmit(1 - n, FINISH, 0, s)
       :: else
       fi; tag = 0; s = 0 }
  :: atomic { net[n]??FINISH(_, s) ->
       flying[s]--;
       if
       :: ST(n, s) == HALF -> half[n] = NO; confirm(n, s); unanswered[n] = false; transmit(1 - n, DATA, 0, s); owing[n] = false
       :: ST(n, s) == CONF -> transmit(1 - n, DATA, 0, s)               /* a repeated finish is acknowledged */
       :: else
       fi; s = 0 }
  :: atomic { net[n]??DATA(_, s) ->
       flying[s]--;
       if
       :: ST(n, s) == WAIT -> wait[n] = NO; confirm(n, s); unanswered[n] = false
#ifndef MUTE
          ; transmit(1 - n, DATA, 0, s); owing[n] = false               /* §4.5: at least a keepalive, at once */
#endif
       :: ST(n, s) == CONF -> unanswered[n] = false; owing[n] = true; SILENT(n, s) = IDLE_ERASES
       :: ST(n, s) == HALF                                              /* it has overtaken the finish */
       :: ST(n, s) == NONE                                              /* it cannot be opened */
#ifdef IDLE
          -> assert(false)
#endif
       fi; s = 0 }
  :: atomic { net[n]??CLOSE(_, s) ->                                    /* only node 0 receives it */
       flying[s]--;
       if :: ST(n, s) == WAIT -> wait[n] = NO; confirm(n, s) :: else fi;
       if
       :: ST(n, s) == CONF -> superseded[s] = true; choose(0); unanswered[n] = false; transmit(1 - n, CLOSE_ACK, 0, s)
       :: else
       fi; s = 0 }
  :: atomic { net[n]??CLOSE_ACK(_, s) -> flying[s]--; leaving[s] = false; s = 0 }
  od
}

proctype clock() {
  byte picked;
  do
  :: atomic { empty(net[0]) && empty(net[1]) -> tick(0); tick(1) }
  :: atomic { empty(net[0]) && empty(net[1]) && pauses < PAUSES -> pauses++; tick(0) }
  :: atomic { empty(net[0]) && empty(net[1]) && pauses < PAUSES -> pauses++; tick(1) }
  od
}

inline restart(n) {
  byte s;
  s = 0;
  do :: s < SESSIONS -> ST(n, s) = NONE; SILENT(n, s) = false; if :: n == 0 -> superseded[s] = false :: else -> leaving[s] = false fi; s++ :: else -> break od;
  s = 0;
  attempt[n] = 0; half_tag[n] = 0; half[n] = NO; wait[n] = NO; older[n] = NO; newer[n] = NO; use[n] = NO; unanswered[n] = false; owing[n] = false
}

proctype world() {
  do
  :: atomic { replays < REPLAYS -> replays++; printf("replay\n"); if :: net[0]!HELLO(STALE, NO) :: net[1]!HELLO(STALE, NO) fi }
  :: atomic { restarts < RESTARTS -> restarts++; printf("restart\n"); if :: restart(0) :: restart(1) fi }
  :: replays == REPLAYS && restarts == RESTARTS -> break
  od
}

init { atomic { last_tag[0] = 1; last_tag[1] = 1; run receiver(0); run receiver(1); run clock(); run world() } }

ltl converges { <>[] converged }
