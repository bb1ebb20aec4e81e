#!/usr/bin/env python3
"""Writes the ProVerif model of the handshake (PROTOCOL §4, §12.3): handshake.py VARIANT SCENARIO > model.pv

Every honest node plays both roles, in sessions without bound, against an active attacker who owns any number of further
identities. The mesh secret is public (the worst case), the attacker chooses both capability words, and R takes any cookie: it
proves an address, and the attacker has all addresses.

VARIANT   spec         PROTOCOL §4 as it stands
          introduced   after an introduction (PROTOCOL §12.3), whose introducer and nonce the attacker chooses
          mixed        every node does both, under the same identity key
          nofinish     broken: the finish carries no signature
          hasty        broken: user data already travels in epoch 0
          reach        spec, asking only whether every end can be reached (each query must come out false)
          reach2       the same after an introduction
SCENARIO  base         both identity keys are published once the sessions are over
          quantum      as base, and every X25519 secret is published as well
          kci          the identity key of the node under test is the attacker's from the start
          eph2         X25519 secrets of earlier sessions between the same nodes leak, then the sessions under test run
"""
import sys
from typing import NamedTuple

VARIANTS = ("spec", "introduced", "mixed", "nofinish", "hasty", "reach", "reach2")
PROVED = ("spec", "introduced", "mixed")
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


class Contact(NamedTuple):
    """How the first word of I reaches R: what I signs (`c` is what the attacker chooses of it) and what the transcript begins with."""

    prefix: str
    signed: str
    begin: str


GREETED = Contact(
    "",
    # S_R | S_I | E_I | C; then the 162 bytes of the hello, which has no room for S_R.
    "(l_hello, bytes_of_public(pk_r), bytes_of_public(pk_i), e_i, c)",
    "(l_hello_i, e_i, bytes_of_public(pk_i), sig_i, c)",
)
INTRODUCED = Contact(
    "Introduced",
    # `c` is S_2 and N_3: all of fixed length, so their places among the others do not matter.
    "(l_introduction, bytes_of_public(pk_i), bytes_of_public(pk_r), e_i, c)",
    "(l_intro_i, bytes_of_public(pk_i), bytes_of_public(pk_r), e_i, c, sig_i)",
)


class Model:
    """The text of one model; a variant or scenario changes the parts it names."""

    def __init__(self, variant: str, scenario: str) -> None:
        self.variant, self.scenario = variant, scenario
        self.contacts = {"introduced": [INTRODUCED], "reach2": [INTRODUCED], "mixed": [GREETED, INTRODUCED]}.get(variant, [GREETED])
        self.answer = "(l_answer, bytes_of_public(pk_i), bytes_of_public(pk_r), e_r, h_i)"
        self.finish = "th_1" if variant == "nofinish" else "sign(sk_i, (l_finish, th_1))"
        self.finish_ok = "f = th_1" if variant == "nofinish" else "verify(pk_i, (l_finish, th_1), f) = true"
        self.confirmation = "hmac(bytes_of_key(derive(prk_0, k_conf)), (l_confirm, th_0))"

    def reveal(self, secret: str) -> str:
        return f"(phase 1; out(net, {secret}))" if self.scenario == "quantum" else "0"

    def hasty(self, key: str, data: str) -> str:
        return f"out(net, seal(derive(prk_0, {key}), {data}));" if self.variant == "hasty" else ""

    def initiator(self, contact: Contact) -> str:
        return f"""
let {contact.prefix}Initiator(sk_i: secret_key) =
  let pk_i = public(sk_i) in
  in(net, pk_r: public_key);
  if pk_i <> pk_r then
  new x: exponent;
  let e_i = bytes_of_point(power(base_point, x)) in
  out(net, e_i);
  ( (!in(net, c: bitstring);      (* signs whatever C the attacker hands in: mac1, cookies of any retry, anything else *)
     out(net, sign(sk_i, {contact.signed})))
  | {self.reveal("x")}
  | (in(net, (c: bitstring, y: point, =pk_r, sig_r: bitstring, confirmation: bitstring));
     let sig_i = sign(sk_i, {contact.signed}) in
     let h_i = hash({contact.begin}) in
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

    def responder(self, contact: Contact) -> str:
        return f"""
let {contact.prefix}Responder(sk_r: secret_key) =
  let pk_r = public(sk_r) in
  in(net, (x: point, pk_i: public_key, sig_i: bitstring, c: bitstring));
  let e_i = bytes_of_point(x) in
  if pk_i <> pk_r then
  if verify(pk_i, {contact.signed}, sig_i) = true then
  let h_i = hash({contact.begin}) in
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

    def leaking_initiator(self, contact: Contact) -> str:
        return f"""
let {contact.prefix}LeakingInitiator(sk_i: secret_key) =                       (* an earlier attempt whose X25519 secret is known *)
  in(net, pk_r: public_key);
  let pk_i = public(sk_i) in
  new x: exponent;
  let e_i = bytes_of_point(power(base_point, x)) in
  out(net, x);
  !in(net, c: bitstring);
  out(net, sign(sk_i, {contact.signed})).
"""

    def main(self) -> str:
        def each(*processes: str) -> str:
            return " | ".join(f"(!{contact.prefix}{process}(s))" for contact in self.contacts for process in processes)

        honest = each("Initiator", "Responder")
        earlier = each("LeakingInitiator") + " | (!LeakingResponder(s)) | " + each("Responder")
        enrol = "new s: secret_key; out(net, public(s)); insert trusted(public(s));"
        body = {
            "base": f"!({enrol} ({honest} | (phase 1; out(net, s))))",
            "quantum": f"!({enrol} ({honest} | (phase 1; out(net, s))))",
            # Whoever holds a node's key may speak as that node: only what it believes about the others is under test.
            "kci": f"({enrol} ({honest})) | ({enrol.replace(' insert trusted(public(s));', ' out(net, s);')} ({honest}))",
            "eph2": f"!({enrol} ({earlier} | (phase 1; ({honest}))))",
        }[self.scenario]
        prefix = self.contacts[0].prefix
        pair = f"({prefix}Initiator(s) | {prefix}Responder(t))"
        proves = self.variant in PROVED
        if not proves and self.scenario == "eph2":
            pair = f"(LeakingInitiator(s) | LeakingResponder(t) | (phase 1; {pair}))"
        if not proves and self.scenario in ("base", "eph2"):
            # One pair is enough to find what is there, and few traces make it quick.
            body = f"{enrol} new t: secret_key; out(net, public(t)); insert trusted(public(t)); {pair}"
        return f"\nprocess\n  {body}\n"

    def text(self) -> str:
        # What is published after the sessions cannot change what happened in them: `base` answers for `quantum`.
        agreement = "" if self.scenario == "quantum" else AGREEMENT
        queries = {
            **dict.fromkeys(PROVED, SECRECY + agreement),
            "nofinish": IMPOSTURE,
            "hasty": SECRECY,
            "reach": REACH,
            "reach2": REACH,
        }[self.variant]
        roles = [part(contact) for contact in self.contacts for part in (self.initiator, self.responder, self.leaking_initiator)]
        parts = (EVENTS, queries, *roles, self.leaking_responder(), self.main())
        precise = "set preciseActions = true.\n" if self.variant in ("reach", "reach2") else ""
        return f"(* variant {self.variant}, scenario {self.scenario} *)\n{precise}" + "".join(parts)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in VARIANTS or sys.argv[2] not in SCENARIOS:
        sys.exit(f"usage: handshake.py {{{'|'.join(VARIANTS)}}} {{{'|'.join(SCENARIOS)}}}")
    print(Model(sys.argv[1], sys.argv[2]).text(), end="")
