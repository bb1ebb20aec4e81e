#!/usr/bin/env python3
"""Writes the ProVerif model of the handshake (PROTOCOL §4): handshake.py VARIANT SCENARIO > model.pv

Every honest node plays both roles, in sessions without bound, against an active attacker who owns any number of further
identities. The mesh secret is public (the worst case), the attacker chooses both capability words, and R takes any cookie: it
proves an address, and the attacker has all addresses.

VARIANT   spec         PROTOCOL §4 as it stands
          nofinish     broken: the finish carries no signature
          hasty        broken: user data already travels in epoch 0
          reach        spec, asking only whether every end can be reached (each query must come out false)
SCENARIO  base         both identity keys are published once the sessions are over
          quantum      as base, and every X25519 secret is published as well
          kci          the identity key of the node under test is the attacker's from the start
          eph2         X25519 secrets of earlier sessions between the same nodes leak, then the sessions under test run
"""
import sys

VARIANTS = ("spec", "nofinish", "hasty", "reach")
SCENARIOS = ("base", "quantum", "kci", "eph2")

EVENTS = """
event IOpens(public_key, public_key, bitstring, kem_key).   (* I takes the offer: user data may follow *)
event ROffers(public_key, public_key, bitstring, kem_key).  (* R answers and offers its ML-KEM key: th_0, ek *)
event ROpens(public_key, public_key, bitstring).            (* R takes the finish: user data may follow *)
event IFinishes(public_key, public_key, bitstring).         (* I sends the finish for th_1 *)
event IConfirms(public_key, public_key, bitstring).         (* I receives the first packet in epoch 1 *)
event RConfirmed(public_key, public_key, bitstring).        (* R has the keys of epoch 1 and sends in it *)
event EndOfI. event EndOfR. event EndOfConfirmation.
table trusted(public_key).                                  (* whose user data is under test *)
free data_i, data_r: bitstring [private].                   (* user data between honest nodes *)
"""

SECRECY = "query attacker(data_i); attacker(data_r).\n"

AGREEMENT = """
query i: public_key, r: public_key, th: bitstring, ek: kem_key;
  inj-event(IOpens(i, r, th, ek)) ==> inj-event(ROffers(i, r, th, ek));
  inj-event(ROpens(i, r, th)) ==> inj-event(IFinishes(i, r, th));
  inj-event(IConfirms(i, r, th)) ==> inj-event(RConfirmed(i, r, th)).
"""

# What the broken variants lose, asked alone: a falsified query is found sooner than the others are proved.
IMPOSTURE = """
query i: public_key, r: public_key, th: bitstring; event(ROpens(i, r, th)) ==> event(IFinishes(i, r, th)).
"""

REACH = "query event(EndOfI); event(EndOfR); event(EndOfConfirmation).\n"


class Model:
    """The text of one model; a variant or scenario changes the parts it names."""

    def __init__(self, variant: str, scenario: str) -> None:
        self.variant, self.scenario = variant, scenario
        self.hello = "(l_hello, bytes_of_public(pk_r), bytes_of_public(pk_i), e_i, c)"
        self.answer = "(l_answer, bytes_of_public(pk_i), bytes_of_public(pk_r), e_r, h_i)"
        self.finish = "th_1" if variant == "nofinish" else "sign(sk_i, (l_finish, th_1))"
        self.finish_ok = "f = th_1" if variant == "nofinish" else "verify(pk_i, (l_finish, th_1), f) = true"
        self.confirmation = "hmac(bytes_of_key(derive(prk_0, k_conf)), (l_confirm, th_0))"

    def reveal(self, secret: str) -> str:
        return f"(phase 1; out(net, {secret}))" if self.scenario == "quantum" else "0"

    def hasty(self, key: str, data: str) -> str:
        return f"out(net, seal(derive(prk_0, {key}), {data}));" if self.variant == "hasty" else ""

    def initiator(self) -> str:
        return f"""
let Initiator(sk_i: secret_key) =
  let pk_i = public(sk_i) in
  in(net, pk_r: public_key);
  if pk_i <> pk_r then
  new x: exponent;
  let e_i = bytes_of_point(power(base_point, x)) in
  out(net, e_i);
  ( (!in(net, c: bitstring);      (* signs whatever C the attacker hands in: mac1, cookies of any retry, anything else *)
     out(net, sign(sk_i, {self.hello})))
  | {self.reveal("x")}
  | (in(net, (c: bitstring, y: point, =pk_r, sig_r: bitstring, confirmation: bitstring));
     let h_i = hash((l_hello_i, e_i, bytes_of_public(pk_i), sign(sk_i, {self.hello}), c)) in
     let e_r = bytes_of_point(y) in
     let th_0 = hash((l_transcript, h_i, e_r, bytes_of_public(pk_r), sig_r)) in
     let prk_0 = extract(th_0, bytes_of_point(power(y, x))) in
     if confirmation = {self.confirmation} then
     if verify(pk_r, {self.answer}, sig_r) = true then
     in(net, offer: bitstring);
     let (caps_r: capabilities, ek: kem_key) = open(derive(prk_0, k_ri_0), offer) in
     in(net, caps_i: capabilities);
     new m: bitstring;
     let ct = kem_cipher(ek, m) in
     let th_1 = hash((l_pq, th_0, caps_i, caps_r, hash(bytes_of_kem(ek)), hash(ct))) in
     event IFinishes(pk_i, pk_r, th_1);
     out(net, seal(derive(prk_0, k_ir_0), (caps_i, ct, {self.finish})));
     let prk_1 = extract(th_1, (bytes_of_key(derive(prk_0, chain_0)), kem_shared(ek, m))) in
     get trusted(=pk_r) in
     event IOpens(pk_i, pk_r, th_0, ek);
     event EndOfI;
     {self.hasty("k_ir_0", "data_i")}
     out(net, seal(derive(prk_1, k_ir_1), data_i));
     in(net, first: bitstring);
     let received = open(derive(prk_1, k_ri_1), first) in
     event IConfirms(pk_i, pk_r, th_1);
     event EndOfConfirmation)).
"""

    def responder(self) -> str:
        return f"""
let Responder(sk_r: secret_key) =
  let pk_r = public(sk_r) in
  in(net, (x: point, pk_i: public_key, sig_i: bitstring, c: bitstring));
  let e_i = bytes_of_point(x) in
  if pk_i <> pk_r then
  if verify(pk_i, {self.hello}, sig_i) = true then
  let h_i = hash((l_hello_i, e_i, bytes_of_public(pk_i), sig_i, c)) in
  new y: exponent;
  let e_r = bytes_of_point(power(base_point, y)) in
  let sig_r = sign(sk_r, {self.answer}) in
  let th_0 = hash((l_transcript, h_i, e_r, bytes_of_public(pk_r), sig_r)) in
  let prk_0 = extract(th_0, bytes_of_point(power(x, y))) in
  new ks: kem_secret;
  let ek = kem_public(ks) in
  in(net, caps_r: capabilities);
  event ROffers(pk_i, pk_r, th_0, ek);
  out(net, (c, power(base_point, y), pk_r, sig_r, {self.confirmation}));
  out(net, seal(derive(prk_0, k_ri_0), (caps_r, ek)));
  ( {self.reveal("y")}
  | (in(net, finish: bitstring);
     let (caps_i: capabilities, ct: bitstring, f: bitstring) = open(derive(prk_0, k_ir_0), finish) in
     let th_1 = hash((l_pq, th_0, caps_i, caps_r, hash(bytes_of_kem(ek)), hash(ct))) in
     if {self.finish_ok} then
     let prk_1 = extract(th_1, (bytes_of_key(derive(prk_0, chain_0)), decapsulate(ks, ct))) in
     event RConfirmed(pk_i, pk_r, th_1);
     get trusted(=pk_i) in
     (event ROpens(pk_i, pk_r, th_1);
     event EndOfR;
     {self.hasty("k_ri_0", "data_r")}
     out(net, seal(derive(prk_1, k_ri_1), data_r)))
     else out(net, seal(derive(prk_1, k_ri_1), th_1)))).
"""

    def leaking_responder(self) -> str:
        return f"""
let LeakingResponder(sk_r: secret_key) =                       (* an earlier answer whose X25519 secret is known *)
  in(net, (pk_i: public_key, h_i: bitstring));
  let pk_r = public(sk_r) in
  new y: exponent;
  let e_r = bytes_of_point(power(base_point, y)) in
  out(net, (power(base_point, y), sign(sk_r, {self.answer})));
  out(net, y).
"""

    def leaking_initiator(self) -> str:
        return f"""
let LeakingInitiator(sk_i: secret_key) =                       (* an earlier attempt whose X25519 secret is known *)
  in(net, pk_r: public_key);
  let pk_i = public(sk_i) in
  new x: exponent;
  let e_i = bytes_of_point(power(base_point, x)) in
  out(net, x);
  !in(net, c: bitstring);
  out(net, sign(sk_i, {self.hello})).
"""

    def main(self) -> str:
        honest = "(!Initiator(s)) | (!Responder(s))"
        enrol = "new s: secret_key; out(net, public(s)); insert trusted(public(s));"
        body = {
            "base": f"!({enrol} ({honest} | (phase 1; out(net, s))))",
            "quantum": f"!({enrol} ({honest} | (phase 1; out(net, s))))",
            # Whoever holds a node's key may speak as that node: only what it believes about the others is under test.
            "kci": f"({enrol} ({honest})) | ({enrol.replace(' insert trusted(public(s));', ' out(net, s);')} ({honest}))",
            "eph2": f"!({enrol} ((!LeakingInitiator(s)) | (!LeakingResponder(s)) | (!Responder(s)) | (phase 1; ({honest}))))",
        }[self.scenario]
        pair = "(Initiator(s) | Responder(t))"
        if self.variant != "spec" and self.scenario == "eph2":
            pair = f"(LeakingInitiator(s) | LeakingResponder(t) | (phase 1; {pair}))"
        if self.variant != "spec" and self.scenario in ("base", "eph2"):
            # One pair is enough to find what is there, and few traces make it quick.
            body = f"{enrol} new t: secret_key; out(net, public(t)); insert trusted(public(t)); {pair}"
        return f"\nprocess\n  {body}\n"

    def text(self) -> str:
        # What is published after the sessions cannot change what happened in them: `base` answers for `quantum`.
        agreement = "" if self.scenario == "quantum" else AGREEMENT
        queries = {
            "spec": SECRECY + agreement,
            "nofinish": IMPOSTURE,
            "hasty": SECRECY,
            "reach": REACH,
        }[self.variant]
        parts = (EVENTS, queries, self.initiator(), self.responder(), self.leaking_initiator(), self.leaking_responder(), self.main())
        precise = "" if self.variant != "reach" else "set preciseActions = true.\n"
        return f"(* variant {self.variant}, scenario {self.scenario} *)\n{precise}" + "".join(parts)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in VARIANTS or sys.argv[2] not in SCENARIOS:
        sys.exit(f"usage: handshake.py {{{'|'.join(VARIANTS)}}} {{{'|'.join(SCENARIOS)}}}")
    print(Model(sys.argv[1], sys.argv[2]).text(), end="")
