//! The test vectors of PROTOCOL §15: reads `tests/vectors/*.txt` and computes every value in them again.
//!
//! Intermediate values follow here from the formulas as the protocol writes them, final ones from the library; a final value that has a formula
//! of its own is compared with both. After a change of the protocol, `HANDFAST_WRITE_VECTORS=1 cargo test --test vectors` writes the files anew.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{env, fmt::Write as _, fs};

use handfast::base::{PeerId, Rng, SessionIndex};
use handfast::crypto::kem::encapsulate_with;
use handfast::crypto::mesh::{Introduced, PunchedBy};
use handfast::crypto::schedule::hello_hash;
use handfast::crypto::{
    Chain, Cipher, CookieJar, EphemeralSecret, Epoch0, EpochKeys, IdentitySecret, KemSecret, Label, Net, OpenKey, Role,
    SealKey, Secret, Transcript, TxCounter,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// One file, read and at the same time written once more from what is computed.
struct Scenario {
    name: &'static str,
    path: PathBuf,
    entries: BTreeMap<String, Vec<u8>>,
    file: String,
    text: String,
    writing: bool,
}

impl Scenario {
    fn open(name: &'static str, about: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        let writing = env::var_os("HANDFAST_WRITE_VECTORS").is_some();
        let file = if writing { String::new() } else { fs::read_to_string(&path).unwrap() };
        let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = lines.map(|line| {
            let (name, value) = line.split_once(" = ").expect("name = hex");
            (name.to_owned(), unhex(value))
        });
        let mut scenario = Self { name, path, entries: entries.collect(), file, text: String::new(), writing };
        scenario.comment(about);
        scenario
    }

    fn comment(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        text.lines().for_each(|line| writeln!(self.text, "# {line}").unwrap());
    }

    /// An input: the value in the file, or `value` when the files are written.
    fn given<const N: usize>(&mut self, name: &str, value: [u8; N]) -> [u8; N] {
        let value = if self.writing { value } else { self.entry(name).try_into().expect("length of an input") };
        self.note(name, &value);
        value
    }

    /// An input that has no better value than a random one.
    fn drawn<const N: usize>(&mut self, name: &str) -> [u8; N] {
        let seed = h(&[self.name.as_bytes(), b" ", name.as_bytes()]);
        self.given(name, Rng::from_seed(seed).bytes())
    }

    /// An output: the value in the file must be the computed one.
    fn is(&mut self, name: &str, computed: &[u8]) {
        if !self.writing {
            assert_eq!(hex(self.entry(name)), hex(computed), "{name} in {}", self.name);
        }
        self.note(name, computed);
    }

    fn entry(&self, name: &str) -> &[u8] {
        self.entries.get(name).unwrap_or_else(|| panic!("no {name} in {}", self.name))
    }

    fn note(&mut self, name: &str, value: &[u8]) {
        writeln!(self.text, "{name} = {}", hex(value)).unwrap();
    }

    /// Nothing may be in the file that was not computed.
    fn close(self) {
        if self.writing {
            fs::write(&self.path, &self.text).unwrap();
        } else {
            assert_eq!(self.file, self.text, "{}", self.name);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).expect("a hex digit") as u8).collect();
    assert!(digits.len().is_multiple_of(2));
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// `H`, by the notation of PROTOCOL §1, as are the next four.
fn h(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Hmac::<Sha256>::new_from_slice(key).unwrap();
    state.update(&parts.concat());
    state.finalize().into_bytes().into()
}

fn hkdf_extract(salt: &[u8; 32], ikm: &[&[u8]]) -> [u8; 32] {
    hmac(salt, ikm)
}

fn hkdf_expand(prk: &[u8; 32], info: &[u8], len: usize) -> Vec<u8> {
    let (mut okm, mut block) = (Vec::new(), Vec::new());
    for number in 1..=len.div_ceil(32) as u8 {
        block = hmac(prk, &[&block, info, &[number]]).to_vec();
        okm.extend_from_slice(&block);
    }
    okm.truncate(len);
    okm
}

fn l(name: &str) -> [u8; 32] {
    let mut label = [0; 32];
    label[..11].copy_from_slice(b"handfast/1 ");
    label[11..11 + name.len()].copy_from_slice(name.as_bytes());
    label
}

fn secret<const N: usize>(bytes: [u8; N]) -> Secret<N> {
    Secret::fill(|place| *place = bytes)
}

/// A sealed packet (PROTOCOL §2.4) around `plaintext`, with the first counter of its key.
fn first_packet(key: &SealKey, index: SessionIndex, plaintext: &[u8]) -> Vec<u8> {
    let nonce = TxCounter::new().next().unwrap();
    let header = [&[0x01, 0x10][..], &index.0.to_be_bytes(), &nonce.counter().to_be_bytes()].concat();
    let mut body = [plaintext, &[0; 16]].concat();
    key.seal(nonce, &header, &mut body);
    [header, body].concat()
}

fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    [&[0x01, kind][..], &fields.concat()].concat()
}

#[test]
fn labels() {
    let mut s =
        Scenario::open("labels.txt", "L(s) for every label of the protocol (PROTOCOL §1); a dot stands for a space.");
    for name in [
        "net",
        "mac1",
        "hello",
        "cookie",
        "cookie tag",
        "hello I",
        "hello answer",
        "transcript",
        "epoch 0",
        "confirm",
        "pq",
        "finish",
        "epoch 1",
        "rekey",
        "rekey answer",
        "transcript n",
        "epoch n",
        "ping",
        "pong",
        "introduction",
        "intro I",
        "punch",
        "tag",
        "lan",
        "rank",
    ] {
        assert_eq!(Label::new(name).as_bytes(), &l(name));
        s.is(&name.replace(' ', "."), &l(name));
    }
    s.close();
}

#[test]
fn clear_ping() {
    let mut s = Scenario::open("ping.txt", "A clear ping and its answer (PROTOCOL §8.4).");
    let (psk, dst, n) = (s.drawn("psk"), PeerId(s.drawn("S_dst")), s.drawn::<16>("n"));
    let net_bytes = h(&[&l("net"), &psk]);
    let net = Net::new(&secret(psk));
    s.is("net", &net_bytes);

    let key = h(&[&l("ping"), &net_bytes, &dst.0]);
    s.is("ping.key", &key);
    assert_eq!(net.ping_mac(&dst, &n), hmac(&key, &[&n])[..16]);
    s.is("ping.mac", &net.ping_mac(&dst, &n));
    s.is("ping", &packet(0x02, &[&n, &net.ping_mac(&dst, &n)]));

    let key = h(&[&l("pong"), &net_bytes, &dst.0]);
    s.is("pong.key", &key);
    assert_eq!(net.pong_mac(&dst, &n), hmac(&key, &[&n])[..16]);
    s.is("pong.mac", &net.pong_mac(&dst, &n));
    s.is("pong", &packet(0x82, &[&n, &net.pong_mac(&dst, &n)]));
    s.close();
}

#[test]
fn an_introduction_without_a_mesh_secret() {
    let about = "Node 1 asks node 2 to introduce it to node 3, in a mesh without a secret (PROTOCOL §12).";
    let mut s = Scenario::open("introduction.txt", about);
    let psk = s.given("psk", [0; 32]);
    introduction(s, psk);
}

#[test]
fn an_introduction_with_a_mesh_secret() {
    let about = "Node 1 asks node 2 to introduce it to node 3, in a mesh with a secret (PROTOCOL §12).";
    let mut s = Scenario::open("introduction-psk.txt", about);
    let psk = s.drawn("psk");
    introduction(s, psk);
}

/// PROTOCOL §12.1, §12.3, §12.4, §12.6 and §12.7.
fn introduction(mut s: Scenario, psk: [u8; 32]) {
    let net_bytes = h(&[&l("net"), &psk]);
    let net = Net::new(&secret(psk));
    s.is("net", &net_bytes);
    s.comment("Keys: s_x and x_1 are private, S_x and X_1 public. N_3 is what node 3 gave out.");
    let [one, two, three] = ["1", "2", "3"].map(|x| {
        let identity = IdentitySecret::from_seed(secret(s.drawn(&format!("s_{x}"))));
        s.is(&format!("S_{x}"), identity.id().as_bytes());
        identity
    });
    let x_1 = ephemeral(&mut s, "x_1", "X_1").public();
    let n_3: [u8; 16] = s.drawn("N_3");
    let [id_1, id_2, id_3] = [one.id(), two.id(), three.id()];

    s.comment("The signature of the asker, and what begins the handshake in the place of a hello (PROTOCOL §12.3).");
    let introduced = Introduced { asker: &id_1, introducer: &id_2, target: &id_3, ephemeral: &x_1, nonce: &n_3 };
    let signature = net.sign_introduction(&one, &introduced);
    net.verify_introduction(&introduced, &signature).unwrap();
    let fields: [&[u8]; 6] = [&net_bytes, &id_1.0, &id_2.0, &id_3.0, &x_1, &n_3];
    let signed = [&l("introduction")[..], &[0x01], &fields.concat()].concat();
    assert_eq!(one.sign(Label::new("introduction"), &[&signed[32..]]), signature);
    s.is("sig_X.signed", &signed);
    s.is("sig_X", &signature);
    let h_i = h(&[&l("intro I"), &fields.concat(), &signature]);
    assert_eq!(net.introduction_hash(&introduced, &signature), h_i);
    s.is("h_I", &h_i);

    s.comment(
        "What node 3 answers, with E_3 for its ephemeral key: the answer to a hello, with this h_I (PROTOCOL §4.4).",
    );
    let e_3 = ephemeral(&mut s, "e_3", "E_3").public();
    let signature = net.sign_answer(&three, &id_1, &e_3, &h_i);
    let signed = [&l("hello answer")[..], &[0x01, 0x81], &net_bytes, &id_1.0, &id_3.0, &e_3, &h_i].concat();
    s.is("sig_R.signed", &signed);
    s.is("sig_R", &signature);
    s.is("th_0", &h(&[&l("transcript"), &h_i, &e_3, &id_3.0, &signature]));

    s.comment("Punch tokens, and the pings that bear them (PROTOCOL §12.4).");
    let key = h(&[&l("punch"), &net_bytes, &x_1, &id_1.0, &id_3.0]);
    s.is("punch.key", &key);
    for (name, by, end) in [("punch.by_1", PunchedBy::Asker, 0x01), ("punch.by_3", PunchedBy::Target, 0x02)] {
        let token = net.punch_token(&x_1, &id_1, &id_3, by);
        assert_eq!(token, hmac(&key, &[&[end]]));
        s.is(name, &token);
        s.is(&format!("{name}.ping"), &packet(0x02, &[&token]));
    }

    s.comment("By which a relay names each (PROTOCOL §12.6).");
    for (name, id) in [("tag_1", id_1), ("tag_3", id_3)] {
        assert_eq!(net.tag(&id).to_be_bytes(), h(&[&l("tag"), &net_bytes, &id.0])[..8]);
        s.is(name, &net.tag(&id).to_be_bytes());
    }

    s.comment("How high 1 and 2 stand among those who introduce 3 (PROTOCOL §12.1).");
    for (name, id) in [("rank_3_1", id_1), ("rank_3_2", id_2)] {
        assert_eq!(net.rank(&id_3, &id).to_be_bytes(), h(&[&l("rank"), &net_bytes, &id_3.0, &id.0])[..8]);
        s.is(name, &net.rank(&id_3, &id).to_be_bytes());
    }

    s.comment("Node 1 says on its link that it is there, with the number n (PROTOCOL §12.7).");
    let n: [u8; 16] = s.drawn("n");
    let key = h(&[&l("lan"), &net_bytes, &id_1.0]);
    s.is("lan.key", &key);
    let mac = net.announcement_mac(&id_1, &n);
    assert_eq!(mac, hmac(&key, &[&n])[..16]);
    s.is("lan.mac", &mac);
    s.is("announcement", &packet(0x02, &[&n, &mac]));
    s.close();
}

#[test]
fn sealed_by_chacha20_poly1305() {
    sealed("sealed-chacha20poly1305.txt", Cipher::ChaCha20Poly1305);
}

#[test]
fn sealed_by_aes_256_gcm() {
    sealed("sealed-aes256gcm.txt", Cipher::Aes256Gcm);
}

fn sealed(file: &'static str, cipher: Cipher) {
    let mut s = Scenario::open(file, &format!("One packet sealed by {cipher:?} (PROTOCOL §2.4, §6)."));
    let (key, index, counter) = (s.drawn("key"), s.drawn::<4>("idx"), s.given("counter", 258_u64.to_be_bytes()));
    // A data packet with one unreliable_data frame on channel 128, and padding.
    let plaintext = s.given("plaintext", *b"\x01\x03\x01\x80\x02\x00\x05hello\x00\x00\x00");

    let header = [&[0x01, 0x10][..], &index, &counter].concat();
    s.is("aad", &header);
    s.is("nonce", &[&[0; 4][..], &counter].concat());

    let nonces = TxCounter::new();
    let number = u64::from_be_bytes(counter);
    for _ in 0..number {
        nonces.next().unwrap();
    }
    let mut body = [&plaintext[..], &[0; 16]].concat();
    SealKey::new(cipher, &secret(key)).seal(nonces.next().unwrap(), &header, &mut body);
    let (ciphertext, tag) = body.split_last_chunk::<16>().unwrap();
    s.is("ciphertext", ciphertext);
    s.is("tag", tag);
    s.is("packet", &[&header[..], &body].concat());

    let open = OpenKey::new(cipher, &secret(key));
    assert_eq!(open.open(number, &header, &mut body).unwrap().0, plaintext);
    s.close();
}

#[test]
fn a_handshake_without_a_mesh_secret() {
    let about =
        "A session from the first hello to epoch 3, in a mesh without a secret, over IPv4, with AES from epoch 1 on.";
    let mut s = Scenario::open("handshake.txt", about);
    let psk = s.given("psk", [0; 32]);
    let address = "192.0.2.1".parse::<IpAddr>().unwrap();
    session(s, Choices { psk, address, caps_i: 3, caps_r: 0x8000_0003, cipher: Cipher::Aes256Gcm });
}

#[test]
fn a_handshake_with_a_mesh_secret() {
    let about =
        "A session from the first hello to epoch 3, in a mesh with a secret, over IPv6, with ChaCha20 throughout.";
    let mut s = Scenario::open("handshake-psk.txt", about);
    let psk = s.drawn("psk");
    let address = "2001:db8::1".parse::<IpAddr>().unwrap();
    session(s, Choices { psk, address, caps_i: 3, caps_r: 2, cipher: Cipher::ChaCha20Poly1305 });
}

/// In what the two handshakes differ.
struct Choices {
    psk: [u8; 32],
    address: IpAddr,
    caps_i: u32,
    caps_r: u32,
    cipher: Cipher,
}

/// The two nodes and what both know of the mesh.
struct Parties {
    net: Net,
    psk: [u8; 32],
    net_bytes: [u8; 32],
    i: IdentitySecret,
    r: IdentitySecret,
}

/// A derived epoch as the protocol writes it, and as the library keeps it.
struct Derived {
    number: u64,
    th: Transcript,
    chain_bytes: [u8; 32],
    chain: Chain,
}

fn session(mut s: Scenario, choices: Choices) {
    s.comment("Keys: s_x and e_x are private, S_x and E_x public (PROTOCOL §1).");
    let [i, r] = ["I", "R"].map(|x| {
        let identity = IdentitySecret::from_seed(secret(s.drawn(&format!("s_{x}"))));
        s.is(&format!("S_{x}"), identity.id().as_bytes());
        identity
    });
    let e_i = ephemeral(&mut s, "e_I", "E_I");
    let net_bytes = h(&[&l("net"), &choices.psk]);
    s.is("net", &net_bytes);
    let parties = Parties { net: Net::new(&secret(choices.psk)), psk: choices.psk, net_bytes, i, r };

    let hello = hellos(&mut s, &parties, &e_i, choices.address);
    let epoch0 = answer(&mut s, &parties, &e_i, &hello);
    let epoch1 = quantum(&mut s, &parties, epoch0, &choices);
    let epoch2 = rekey(&mut s, &parties, epoch1, choices.cipher, Role::Initiator);
    rekey(&mut s, &parties, epoch2, choices.cipher, Role::Responder);
    s.close();
}

fn ephemeral(s: &mut Scenario, private: &str, public: &str) -> EphemeralSecret {
    let key = EphemeralSecret::from_seed(&secret(s.drawn(private)));
    s.is(public, &key.public());
    key
}

/// PROTOCOL §4.1 to §4.3; returns the accepted hello.
fn hellos(s: &mut Scenario, parties: &Parties, e_i: &EphemeralSecret, address: IpAddr) -> [u8; 162] {
    let Parties { net, net_bytes, i, r, .. } = parties;
    let (e, s_i, s_r) = (e_i.public(), i.id(), r.id());

    s.comment("First hello (PROTOCOL §4.1).");
    let key = h(&[&l("mac1"), net_bytes, &s_r.0]);
    let mac1 = net.mac1(&s_r, &e, &s_i);
    assert_eq!(mac1, hmac(&key, &[&[0x01, 0x01], &e, &s_i.0]));
    s.is("mac1.key", &key);
    s.is("mac1", &mac1);
    signed_hello(s, parties, "hello_1", &e, &mac1);

    s.comment("Hello retry (PROTOCOL §4.2): K is the cookie secret of R, src the address of I as R sees it.");
    let k = s.drawn("K");
    let ip = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let (ip, port) = (s.given("src_ip", ip.octets()), s.given("src_port", 18502_u16.to_be_bytes()));
    let source = SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes(port));
    #[expect(clippy::disallowed_methods, reason = "an Instant can be made by the clock only")]
    let jar = CookieJar::with_secret(std::time::Instant::now(), secret(k), &mut Rng::from_number(0));
    let ck = jar.retry(source, &e, &s_i);
    assert_eq!(ck, hmac(&k, &[&l("cookie"), &ip, &port, &e, &s_i.0])[..16]);
    assert!(jar.verify(source, &e, &s_i, &ck));
    s.is("ck", &ck);
    let key = h(&[&l("cookie tag"), net_bytes, &s_r.0, &e, &s_i.0, &mac1]);
    let ct = net.cookie_tag(&s_r, &e, &s_i, &mac1, &ck);
    assert_eq!(ct, hmac(&key, &[&ck])[..16]);
    s.is("ct.key", &key);
    s.is("ct", &ct);
    s.is("hello_retry", &packet(0x83, &[&ck, &ct]));

    s.comment("Second hello (PROTOCOL §4.3).");
    let cookie: [u8; 32] = [ck, ct].concat().try_into().unwrap();
    signed_hello(s, parties, "hello_2", &e, &cookie)
}

fn signed_hello(s: &mut Scenario, parties: &Parties, name: &str, e: &[u8; 32], c: &[u8; 32]) -> [u8; 162] {
    let Parties { net, net_bytes, i, r, .. } = parties;
    let (s_i, s_r) = (i.id(), r.id());
    let signature = net.sign_hello(i, &s_r, e, c);
    net.verify_hello(&s_i, &s_r, e, c, &signature).unwrap();
    s.is(
        &format!("{name}.signed"),
        &[&l("hello")[..], &[0x01, 0x01], net_bytes, s_r.as_bytes(), s_i.as_bytes(), e, c].concat(),
    );
    s.is(&format!("{name}.sig"), &signature);
    let hello = packet(0x01, &[e, &s_i.0, &signature, c]);
    s.is(name, &hello);
    hello.try_into().unwrap()
}

/// PROTOCOL §4.4.
fn answer(s: &mut Scenario, parties: &Parties, e_i: &EphemeralSecret, hello: &[u8; 162]) -> Derived {
    let Parties { net, psk, net_bytes, i, r } = parties;
    let (s_i, s_r) = (i.id(), r.id());
    s.comment("Hello answer and epoch 0, which is sealed by ChaCha20Poly1305 (PROTOCOL §4.4).");
    let e_r = ephemeral(s, "e_R", "E_R");
    let h_i = hello_hash(hello);
    assert_eq!(h_i, h(&[&l("hello I"), hello]));
    s.is("h_I", &h_i);

    let signature = net.sign_answer(r, &s_i, &e_r.public(), &h_i);
    net.verify_answer(&s_r, &s_i, &e_r.public(), &h_i, &signature).unwrap();
    let signed = [&l("hello answer")[..], &[0x01, 0x81], net_bytes, &s_i.0, &s_r.0, &e_r.public(), &h_i].concat();
    s.is("sig_R.signed", &signed);
    s.is("sig_R", &signature);

    let shared = e_r.agree(&e_i.public()).unwrap();
    assert_eq!(shared.expose(), e_i.agree(&e_r.public()).unwrap().expose());
    s.is("x25519", shared.expose());
    let derive = || Epoch0::derive(net, &h_i, &e_r.public(), &s_r, &signature, &shared);
    let (epoch, other) = (derive(), derive());
    let th = h(&[&l("transcript"), &h_i, &e_r.public(), &s_r.0, &signature]);
    assert_eq!(epoch.transcript.as_bytes(), &th);
    s.is("th_0", &th);
    let prk = hkdf_extract(&th, &[shared.expose(), psk]);
    s.is("prk_0", &prk);
    let okm = hkdf_expand(&prk, &l("epoch 0"), 136);
    s.is("okm_0", &okm);
    let k_conf = &okm[64..96];
    s.is("k_conf", k_conf);
    let chain_bytes = okm[96..128].try_into().unwrap();

    let layout = [&okm[..64], &okm[96..]].concat();
    keys(s, 0, &layout, Cipher::ChaCha20Poly1305, [epoch.keys, other.keys]);
    let confirmation = checked_confirmation(&derive());
    assert_eq!(confirmation, hmac(k_conf, &[&l("confirm"), &th]));
    s.is("confirmation", &confirmation);
    s.is("hello_answer", &packet(0x81, &[&e_r.public(), &s_r.0, &signature, &confirmation]));
    Derived { number: 0, th: epoch.transcript, chain_bytes, chain: epoch.chain }
}

fn checked_confirmation(epoch: &Epoch0) -> [u8; 32] {
    let confirmation = epoch.confirmation();
    epoch.verify_confirmation(&confirmation).unwrap();
    confirmation
}

/// The fields of `layout = k_IR | k_RI | chain | idx_I | idx_R`, and what both sides of the library seal with them.
fn keys(s: &mut Scenario, number: u64, layout: &[u8], cipher: Cipher, [one, other]: [EpochKeys; 2]) {
    for (field, range) in
        [("k_IR", 0..32), ("k_RI", 32..64), ("chain", 64..96), ("idx_I", 96..100), ("idx_R", 100..104)]
    {
        s.is(&format!("{field}_{number}"), &layout[range]);
    }
    // A keepalive (PROTOCOL §2.3) in each direction.
    let keepalive = [0x01, 0x03, 0x00];
    for (keys, role, name, key, index) in [
        (one, Role::Initiator, "I", &layout[..32], &layout[100..104]),
        (other, Role::Responder, "R", &layout[32..64], &layout[96..100]),
    ] {
        let halves = keys.split(role, cipher);
        assert_eq!(halves.send.0.to_be_bytes(), index);
        let packet = first_packet(&halves.seal, halves.send, &keepalive);
        let key = OpenKey::new(cipher, &secret(key.try_into().unwrap()));
        assert_eq!(key.open(0, &packet[..14], &mut packet[14..].to_vec()).unwrap().0, keepalive);
        s.is(&format!("keepalive_{name}_{number}"), &packet);
    }
}

/// The fields of one encapsulation: `(ek, ct, ss)`.
fn kem(s: &mut Scenario, suffix: &str) -> (Box<[u8; 1184]>, Box<[u8; 1088]>, Secret<32>) {
    let (d, z, m) = (
        s.drawn::<32>(&format!("d{suffix}")),
        s.drawn::<32>(&format!("z{suffix}")),
        s.drawn::<32>(&format!("m{suffix}")),
    );
    let key = KemSecret::from_seed(&secret([d, z].concat().try_into().unwrap()));
    let ek = key.public();
    let (ct, ss) = encapsulate_with(&ek, &secret(m)).unwrap();
    assert_eq!(key.decapsulate(&ct).expose(), ss.expose());
    s.is(&format!("ek{suffix}"), &*ek);
    s.is(&format!("ct{suffix}"), &*ct);
    s.is(&format!("ss{suffix}"), ss.expose());
    s.is(&format!("H(ek{suffix})"), &h(&[&*ek]));
    s.is(&format!("H(ct{suffix})"), &h(&[&*ct]));
    (ek, ct, ss)
}

/// PROTOCOL §4.5.
fn quantum(s: &mut Scenario, parties: &Parties, epoch0: Derived, choices: &Choices) -> Derived {
    let Parties { net, net_bytes, i, .. } = parties;
    s.comment(&format!(
        "Offer, finish and epoch 1, from which on packets are sealed by {:?} (PROTOCOL §4.5, §5.1).\n\
         d and z make the ML-KEM key of R, m is the randomness of the encapsulation.",
        choices.cipher
    ));
    let caps_i = s.given("caps_I", choices.caps_i.to_be_bytes());
    let caps_r = s.given("caps_R", choices.caps_r.to_be_bytes());
    let both_prefer_aes = caps_i[3] & caps_r[3] & 1 != 0;
    assert_eq!(Cipher::choose(both_prefer_aes), choices.cipher);
    let (ek, ct, ss) = kem(s, "_1");
    s.is("offer", &[&[0x01][..], &caps_r, &*ek].concat());

    let th = epoch0.th.quantum(u32::from_be_bytes(caps_i), u32::from_be_bytes(caps_r), &ek, &ct);
    let (h_ek, h_ct) = (h(&[&*ek]), h(&[&*ct]));
    assert_eq!(th.as_bytes(), &h(&[&l("pq"), epoch0.th.as_bytes(), &caps_i, &caps_r, &h_ek, &h_ct]));
    s.is("th_1", th.as_bytes());
    let signature = net.sign_finish(i, &th);
    net.verify_finish(&i.id(), &th, &signature).unwrap();
    s.is("sig_F.signed", &[&l("finish")[..], &[0x01], net_bytes, th.as_bytes()].concat());
    s.is("sig_F", &signature);
    s.is("finish", &[&[0x02][..], &caps_i, &*ct, &signature].concat());

    let prk = hkdf_extract(th.as_bytes(), &[&epoch0.chain_bytes, ss.expose()]);
    s.is("prk_1", &prk);
    let okm = hkdf_expand(&prk, &l("epoch 1"), 104);
    s.is("okm_1", &okm);
    let [(one, chain), (other, _)] = [(); 2].map(|()| epoch0.chain.quantum(&th, &ss));
    keys(s, 1, &okm, choices.cipher, [one, other]);
    Derived { number: 1, th, chain_bytes: okm[64..96].try_into().unwrap(), chain }
}

/// PROTOCOL §5.2, started by the node in the role `starter`.
fn rekey(s: &mut Scenario, parties: &Parties, previous: Derived, cipher: Cipher, starter: Role) -> Derived {
    let Parties { net, net_bytes, i, r, .. } = parties;
    let n = previous.number + 1;
    let (from, to, name) = match starter {
        Role::Initiator => (i, r, "I"),
        Role::Responder => (r, i, "R"),
    };
    s.comment(&format!(
        "Rekey to epoch {n}, started by {name} (PROTOCOL §5.2): e' and E' are of {name}, e'' and E'' of the other.\n\
         d and z make the ML-KEM key of {name}, m is the randomness of the encapsulation."
    ));
    let e1 = ephemeral(s, &format!("e'_{n}"), &format!("E'_{n}"));
    let e2 = ephemeral(s, &format!("e''_{n}"), &format!("E''_{n}"));
    let (ek, ct, ss) = kem(s, &format!("_{n}"));
    let (e1_public, e2_public, h_ek, h_ct) = (e1.public(), e2.public(), h(&[&*ek]), h(&[&*ct]));

    let signature = net.sign_rekey(from, &previous.th, &e1_public, &ek);
    net.verify_rekey(&from.id(), &previous.th, &e1_public, &ek, &signature).unwrap();
    let signed = [&l("rekey"), net_bytes, previous.th.as_bytes(), &e1_public, &h_ek].map(|part| &part[..]).concat();
    s.is(&format!("rekey_{n}.signed"), &signed);
    s.is(&format!("rekey_{n}.sig"), &signature);
    s.is(&format!("rekey_{n}"), &[&[0x03][..], &e1_public, &*ek, &signature].concat());

    let th = previous.th.rekey(&e1_public, &e2_public, &ek, &ct);
    assert_eq!(th.as_bytes(), &h(&[&l("transcript n"), previous.th.as_bytes(), &e1_public, &e2_public, &h_ek, &h_ct]));
    s.is(&format!("th_{n}"), th.as_bytes());
    let signature = net.sign_rekey_answer(to, &th);
    net.verify_rekey_answer(&to.id(), &th, &signature).unwrap();
    s.is(&format!("rekey_answer_{n}.signed"), &[l("rekey answer"), *net_bytes, *th.as_bytes()].concat());
    s.is(&format!("rekey_answer_{n}.sig"), &signature);
    s.is(&format!("rekey_answer_{n}"), &[&[0x04][..], &e2_public, &*ct, &signature].concat());

    let shared = e1.agree(&e2_public).unwrap();
    assert_eq!(shared.expose(), e2.agree(&e1_public).unwrap().expose());
    s.is(&format!("x25519_{n}"), shared.expose());
    let prk = hkdf_extract(th.as_bytes(), &[&previous.chain_bytes, shared.expose(), ss.expose()]);
    s.is(&format!("prk_{n}"), &prk);
    let okm = hkdf_expand(&prk, &l("epoch n"), 104);
    s.is(&format!("okm_{n}"), &okm);
    let [(one, chain), (other, _)] = [(); 2].map(|()| previous.chain.rekey(&th, &shared, &ss));
    keys(s, n, &okm, cipher, [one, other]);
    Derived { number: n, th, chain_bytes: okm[64..96].try_into().unwrap(), chain }
}
