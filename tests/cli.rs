//! The commands, as a person or a script sees them: output, one-line errors, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use clap::CommandFactory as _;
use handfast::base::Rng;
use handfast::cli::args::Arguments;
use handfast::cli::{Exit, Streams, run};
use handfast::config::{key, keyfile};
use handfast::crypto::keys::IdentitySecret;
use tempfile::TempDir;

const MANUAL: &str = include_str!("../man/handfast.8");
const UNIT: &str = include_str!("../systemd/handfast.service");

struct Outcome {
    exit: Exit,
    output: String,
    error: String,
}

fn handfast_with<S: Into<OsString>>(input: &str, arguments: impl IntoIterator<Item = S>) -> Outcome {
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let streams = Streams { input: &mut input.as_bytes(), output: &mut output, error: &mut error };
    let exit = run(std::iter::once("handfast".into()).chain(arguments.into_iter().map(Into::into)), streams);
    Outcome { exit, output: String::from_utf8(output).unwrap(), error: String::from_utf8(error).unwrap() }
}

/// One command, split at spaces.
fn handfast(line: &str) -> Outcome {
    handfast_with("", line.split(' '))
}

/// Asserts the shape of every failure: an exit code, nothing on the output, one line that begins with the name of the program.
fn failure(line: &str, exit: Exit) -> String {
    let outcome = handfast(line);
    assert_eq!((outcome.exit, outcome.output.as_str()), (exit, ""), "{line}: {}", outcome.error);
    assert_eq!(outcome.error.matches('\n').count(), 1, "{}", outcome.error);
    outcome.error.trim_end().strip_prefix("handfast: ").expect("the name of the program").to_owned()
}

fn identity() -> IdentitySecret {
    IdentitySecret::generate(&mut Rng::from_number(5))
}

/// A directory with a key file and a configuration `t.toml` that ends with `rest`.
fn node(rest: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let key = directory.path().join("identity.key");
    keyfile::create(&key, &identity()).unwrap();
    let config = directory.path().join("t.toml");
    let text =
        format!("[interface]\naddresses = [\"10.0.0.1/24\"]\n[identity]\nkey_file = \"{}\"\n{rest}\n", key.display());
    fs::write(&config, text).unwrap();
    (directory, config)
}

// ---- keys

#[test]
fn keygen_writes_a_private_file_and_prints_the_public_key() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("lib/handfast.key");
    let made = handfast(&format!("keygen --out {}", path.display()));
    assert_eq!((made.exit, made.error.as_str()), (Exit::Done, ""));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let public = handfast(&format!("pubkey {}", path.display()));
    assert_eq!((public.exit, public.output.as_str()), (Exit::Done, made.output.as_str()));
    assert!(key::parse_public(made.output.trim_end()).is_ok());
}

#[test]
fn keygen_does_not_overwrite() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, "precious").unwrap();
    let message = failure(&format!("keygen --out {}", path.display()), Exit::Failed);
    assert!(message.starts_with(&format!("{}: exists already and is not overwritten", path.display())), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn keygen_without_a_file_prints_a_key_that_pubkey_reads() {
    let printed = handfast("keygen");
    let public = handfast_with(&printed.output, ["pubkey", "-"]);
    assert_eq!(printed.error, format!("public key: {}", public.output));
    assert_ne!(handfast("keygen").output, printed.output);
}

#[test]
fn pubkey_of_something_else_names_it() {
    assert!(failure("pubkey /nonexistent/key", Exit::Refused).starts_with("/nonexistent/key: there is no such file"));
    assert!(failure("pubkey -", Exit::Refused).starts_with("standard input: does not hold a key"));
}

// ---- check and up

#[test]
fn check_says_what_it_found() {
    let (_directory, config) = node("[[channel]]\nname = \"x\"\nmatch = { port = 1 }");
    let outcome = handfast(&format!("check {}", config.display()));
    let public = key::format_public(&identity().id());
    let expected =
        format!("{}: good: interface hf0, 0 peers, 1 reliable channel; public key {public}\n", config.display());
    assert_eq!((outcome.exit, outcome.output, outcome.error), (Exit::Done, expected, String::new()));
}

#[test]
fn check_and_up_refuse_a_bad_configuration_in_one_line() {
    let (_directory, config) = node("[listen]\nprot = 1");
    let expected =
        format!("{}:6: listen.prot: unknown key; did you mean `port`? accepted here: port", config.display());
    assert_eq!(failure(&format!("check {}", config.display()), Exit::Refused), expected);
    assert_eq!(failure(&format!("up --config {}", config.display()), Exit::Refused), expected);
}

#[test]
fn check_refuses_an_open_key_file() {
    let (directory, config) = node("");
    fs::set_permissions(directory.path().join("identity.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let message = failure(&format!("check {}", config.display()), Exit::Refused);
    assert!(message.starts_with(&format!("{}:4: identity.key_file = ", config.display())), "{message}");
    assert!(message.contains("is open to others (mode 0644)"), "{message}");
}

// ---- usage and help

#[test]
fn wrong_usage_is_one_line_with_a_tip() {
    assert_eq!(
        failure("stats", Exit::Usage),
        "unrecognized subcommand 'stats'; a similar subcommand exists: 'status'; try --help"
    );
    assert!(
        failure("up", Exit::Usage).starts_with("the following required arguments were not provided: --config <FILE>")
    );
    assert!(failure("status --jsn", Exit::Usage).contains("a similar argument exists: '--json'"));
    assert!(failure("check a b", Exit::Usage).starts_with("unexpected argument 'b' found"));
}

#[test]
fn help_teaches_commands_examples_and_exit_codes() {
    let help = handfast("--help");
    assert_eq!((help.exit, help.error.as_str()), (Exit::Done, ""));
    for word in [
        "keygen",
        "pubkey",
        "check",
        "up",
        "status",
        "peers",
        "ping",
        "netcheck",
        "why",
        "Exit codes:",
        "handfast.toml(5)",
    ] {
        assert!(help.output.contains(word), "{word}");
    }
    for command in Arguments::command().get_subcommands() {
        let help = handfast(&format!("{} --help", command.get_name()));
        assert!(help.output.contains("Example") && help.output.contains("Usage:"), "{}", command.get_name());
    }
    assert_eq!(handfast("--version").output, concat!("handfast ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_manual_names_every_command_and_option_and_no_other() {
    let explained: Vec<&str> =
        MANUAL.split("Fl -").skip(1).map(|rest| rest.split([' ', '\n']).next().unwrap_or_default()).collect();
    let mut known = vec!["help".to_owned(), "version".to_owned()];
    for command in Arguments::command().get_subcommands() {
        assert!(MANUAL.contains(&format!("\n.It Cm {}", command.get_name())), "{}", command.get_name());
        known.extend(command.get_arguments().filter_map(|argument| argument.get_long().map(ToOwned::to_owned)));
    }
    for option in &known {
        assert!(explained.contains(&option.as_str()), "--{option} is not in the manual");
    }
    for option in explained {
        assert!(known.iter().any(|known| known == option), "the manual explains --{option}");
    }
}

#[test]
fn help_and_manual_agree_on_exit_codes() {
    let help = handfast("--help").output;
    for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Refused, Exit::NoDaemon] {
        let code = exit as u8;
        let meaning =
            help.lines().find_map(|line| line.strip_prefix(&format!("  {code}  "))).expect("a line for each code");
        let entry =
            MANUAL.split(&format!("\n.It {code}\n")).nth(1).expect("an entry for each code").lines().next().unwrap();
        assert_eq!(entry.trim_end_matches('.').to_lowercase(), meaning.to_lowercase());
    }
}

#[test]
fn the_unit_runs_what_the_manual_says_and_does_not_repeat_refusals() {
    assert!(UNIT.contains("\nExecStart=/usr/bin/handfast up --config /etc/handfast/handfast.toml\n"));
    assert!(UNIT.contains(&format!("\nRestartPreventExitStatus={} {}\n", Exit::Usage as u8, Exit::Refused as u8)));
}

// ---- status

const ANSWER: &str = r#"{"status":{"version":1,"daemon_version":"0.1.0",
    "interface":{"name":"hf0","addresses":["10.77.0.1/24","fd77::1/64"],"mtu":1280},
    "public_key":"XdADsTODPLEheZ7tHdvaT/pZG3bC7q8quxpA8AXjrIM=","port":18502,"uptime_seconds":7500.25,
    "peers":[
      {"name":"b","public_key":"YdADsTODPLEheZ7tHdvaT/pZG3bC7q8quxpA8AXjrIM=","prefixes":["10.77.0.2/32"],
       "endpoint":"192.0.2.2:18502","state":"connected","session_age_seconds":64.5,"cipher":"AES-256-GCM","post_quantum":true,
       "rtt_ms":10.25,"last_received_seconds":2.0,"rx_bytes":1073741824,"tx_bytes":512,"rx_packets":800000,"tx_packets":8,
       "datagram_limit":1228,"paths":[
         {"hop":{"direct":"192.0.2.2:18502"},"kind":"observed","primary":true,"proven":true,"rtt_ms":10.25,"heard_seconds":2.0,"unanswered":0},
         {"hop":{"relay":"c"},"kind":"relayed","primary":false,"proven":true,"rtt_ms":31.0,"heard_seconds":null,"unanswered":2}],
       "standing":true,"relay":false,"known_by":["c","d"],"reliable":{"queued_bytes":0,"retransmissions":7},"drops":{"replayed":3,"source_not_allowed":0}},
      {"name":"phone","public_key":"ZdADsTODPLEheZ7tHdvaT/pZG3bC7q8quxpA8AXjrIM=","prefixes":["10.77.0.3/32"],
       "endpoint":null,"state":"idle","session_age_seconds":null,"cipher":null,"post_quantum":false,"rtt_ms":null,
       "last_received_seconds":null,"rx_bytes":0,"tx_bytes":0,"rx_packets":0,"tx_packets":0,"datagram_limit":null,
       "paths":[],"standing":false,"relay":false,"known_by":[],
       "reliable":{"queued_bytes":0,"retransmissions":0},"drops":{}}],
    "drops":{"no_route":12},"counters":{"hellos":4},"added_by_a_later_version":true}}"#;

/// A daemon that answers one request with each of `answers`, and gives back what it was asked.
fn daemon_of(answers: &[&str]) -> (TempDir, JoinHandle<String>) {
    let directory = TempDir::new().unwrap();
    let listener = UnixListener::bind(directory.path().join("s")).unwrap();
    let lines: Vec<String> = answers.iter().map(|answer| answer.replace('\n', " ") + "\n").collect();
    let served = thread::spawn(move || {
        let mut requests = String::new();
        for line in lines {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut requests).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
        }
        requests
    });
    (directory, served)
}

fn daemon(answer: &str) -> (TempDir, JoinHandle<String>) {
    daemon_of(&[answer])
}

fn ask_for(directory: &TempDir, command: &str) -> Outcome {
    handfast(&format!("{command} --socket {}", directory.path().join("s").display()))
}

fn ask(directory: &TempDir, flags: &str) -> Outcome {
    ask_for(directory, &format!("status{flags}"))
}

#[test]
fn status_is_a_table_that_lines_up() {
    let (directory, served) = daemon(ANSWER);
    let shown = ask(&directory, "");
    let expected = "\
hf0   10.77.0.1/24, fd77::1/64   MTU 1280   UDP port 18502   up 2 h 5 min
key   XdADsTODPLEheZ7tHdvaT/pZG3bC7q8quxpA8AXjrIM=

PEER   STATE      ENDPOINT             RTT    SESSION    HEARD  RECEIVED   SENT  CIPHER
b      connected  192.0.2.2:18502  10.2 ms  1 min 4 s  2 s ago   1.0 GiB  512 B  AES-256-GCM, post-quantum
phone  idle       -                      -          -    never       0 B    0 B  -

b: reliable channels: 0 B waiting, 7 sent again
b: dropped: 3 replayed
this node: dropped: 12 no_route
";
    assert_eq!((shown.exit, shown.output.as_str(), shown.error.as_str()), (Exit::Done, expected, ""));
    assert_eq!(served.join().unwrap(), "{\"version\":1,\"command\":\"status\"}\n");
}

#[test]
fn status_in_json_has_every_documented_field() {
    let (directory, served) = daemon(ANSWER);
    let shown: serde_json::Value = serde_json::from_str(&ask(&directory, " --json").output).unwrap();
    served.join().unwrap();
    let answered: serde_json::Value = serde_json::from_str(ANSWER).unwrap();
    let mut expected = answered["status"].clone();
    expected.as_object_mut().unwrap().remove("added_by_a_later_version");
    assert_eq!(shown, expected);
    is_documented(&expected);
}

/// Asserts that the manual names every field, down to the last; the names of counters are data.
fn is_documented(value: &serde_json::Value) {
    for (field, value) in value.as_object().into_iter().flatten() {
        assert!(MANUAL.contains(field.as_str()), "{field} is not in the manual");
        if field != "drops" && field != "counters" {
            is_documented(value);
        }
    }
    value.as_array().into_iter().flatten().for_each(is_documented);
}

#[test]
fn a_terminal_is_safe_from_what_the_socket_says() {
    let (directory, served) = daemon(&ANSWER.replace("\"phone\"", "\"\\u001b]0;x\\u0007phone\""));
    let shown = ask(&directory, "").output;
    served.join().unwrap();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn status_without_a_daemon_has_its_own_exit_code() {
    let message = failure("status --socket /nonexistent/hf0.sock", Exit::NoDaemon);
    assert_eq!(message, "no daemon is listening at /nonexistent/hf0.sock; is the service running?");
}

#[test]
fn a_refusal_of_the_daemon_is_passed_on() {
    let (directory, served) = daemon(r#"{"error":{"reason":"busy","message":"the daemon is stopping"}}"#);
    let refused = ask(&directory, "");
    served.join().unwrap();
    assert_eq!(
        (refused.exit, refused.error.as_str()),
        (Exit::Failed, "handfast: the daemon refuses: the daemon is stopping\n")
    );
}

#[test]
fn status_shows_the_relay_where_packets_do_not_go_to_the_peer_itself() {
    let relayed = ANSWER
        .replace("\"endpoint\":\"192.0.2.2:18502\"", "\"endpoint\":null")
        .replace("{\"direct\":\"192.0.2.2:18502\"}", "{\"relay\":\"c\"}");
    let (directory, served) = daemon(&relayed);
    let shown = ask(&directory, "");
    served.join().unwrap();
    assert!(shown.output.contains("b      connected  via c "), "{}", shown.output);
}

// ---- peers, ping, netcheck, why

#[test]
fn peers_shows_paths_and_a_total() {
    let (directory, served) = daemon(ANSWER);
    let shown = ask_for(&directory, "peers");
    let expected = "\
PEER   STATE      PATH             KIND          RTT  RECEIVED   SENT  KNOWN BY
b      connected  192.0.2.2:18502  observed  10.2 ms   1.0 GiB  512 B  c, d
phone  idle       -                -               -       0 B    0 B  -

2 peers: 1 connected (1 direct, 0 relayed), 0 connecting, 1 idle; received 1.0 GiB, sent 512 B
";
    assert_eq!((shown.exit, shown.output.as_str(), shown.error.as_str()), (Exit::Done, expected, ""));
    assert_eq!(served.join().unwrap(), "{\"version\":1,\"command\":\"status\"}\n");
}

#[test]
fn peers_in_json_are_those_of_the_status() {
    let (directory, served) = daemon(ANSWER);
    let shown: serde_json::Value = serde_json::from_str(&ask_for(&directory, "peers --json").output).unwrap();
    served.join().unwrap();
    let answered: serde_json::Value = serde_json::from_str(ANSWER).unwrap();
    assert_eq!(shown, serde_json::json!({ "version": 1, "peers": answered["status"]["peers"] }));
}

/// The status of a daemon that is older than paths.
#[test]
fn peers_of_an_older_daemon_are_shown_as_far_as_it_knows_them() {
    let mut answer: serde_json::Value = serde_json::from_str(ANSWER).unwrap();
    for peer in answer["status"]["peers"].as_array_mut().unwrap() {
        for field in ["paths", "standing", "relay", "known_by"] {
            peer.as_object_mut().unwrap().remove(field);
        }
    }
    let (directory, served) = daemon(&answer.to_string());
    let shown = ask_for(&directory, "peers");
    served.join().unwrap();
    assert_eq!(shown.exit, Exit::Done, "{}", shown.error);
    assert!(shown.output.contains("b      connected  192.0.2.2:18502  -     10.2 ms"), "{}", shown.output);
}

const DIRECT: &str = r#"{"pong":{"version":1,"peer":"b","number":1,"rtt_ms":1.32,"hop":{"direct":"198.51.100.7:18502"},"state":"connected"}}"#;
const RELAYED: &str =
    r#"{"pong":{"version":1,"peer":"b","number":2,"rtt_ms":31.0,"hop":{"relay":"c"},"state":"connected"}}"#;
const LOST: &str = r#"{"pong":{"version":1,"peer":"b","number":3,"rtt_ms":null,"hop":null,"state":"connecting"}}"#;

#[test]
fn ping_prints_a_line_each_and_a_summary() {
    let (directory, served) = daemon_of(&[DIRECT, RELAYED, LOST]);
    let shown = ask_for(&directory, "ping 10.77.0.2 --count 3 --interval 0");
    let expected = "\
b: 1.3 ms, direct to 198.51.100.7:18502
b: 31.0 ms, through relay c
b: no answer within 2 s; there is no session yet, an attempt is under way
3 sent, 2 answered; shortest 1.3 ms, mean 16.2 ms, longest 31.0 ms
";
    assert_eq!((shown.exit, shown.output.as_str(), shown.error.as_str()), (Exit::Done, expected, ""));
    let asked = served.join().unwrap();
    let questions: Vec<String> = (1..=3)
        .map(|number| {
            format!("{{\"version\":1,\"command\":{{\"ping\":{{\"peer\":\"10.77.0.2\",\"number\":{number}}}}}}}\n")
        })
        .collect();
    assert_eq!(asked, questions.concat());
}

#[test]
fn ping_in_json_is_one_object_with_every_documented_field() {
    let (directory, served) = daemon_of(&[DIRECT, LOST]);
    let shown: serde_json::Value =
        serde_json::from_str(&ask_for(&directory, "ping b -c 2 -i 0 --json").output).unwrap();
    served.join().unwrap();
    is_documented(&shown);
    let expected = serde_json::json!({ "version": 1, "peer": "b", "sent": 2, "received": 1, "min_ms": 1.32, "mean_ms": 1.32, "max_ms": 1.32,
        "pings": [serde_json::from_str::<serde_json::Value>(DIRECT).unwrap()["pong"], serde_json::from_str::<serde_json::Value>(LOST).unwrap()["pong"]] });
    assert_eq!(shown, expected);
}

#[test]
fn ping_without_any_answer_has_failed() {
    let (directory, served) = daemon(LOST);
    let shown = ask_for(&directory, "ping b --count 1");
    served.join().unwrap();
    assert_eq!((shown.exit, shown.error.as_str()), (Exit::Failed, "handfast: b does not answer\n"));
    assert!(shown.output.ends_with("1 sent, 0 answered\n"), "{}", shown.output);
}

#[test]
fn ping_takes_only_a_count_and_an_interval_that_make_sense() {
    assert!(failure("ping b --count 0", Exit::Usage).contains("0 is not in 1..=10000"));
    for interval in ["-1", "x", "NaN", "inf", "1e99"] {
        let message = failure(&format!("ping b --interval={interval}"), Exit::Usage);
        assert!(message.contains("accepted: seconds from 0 to 3600"), "{message}");
    }
    assert!(failure("ping", Exit::Usage).contains("<PEER>"));
}

#[test]
fn an_unknown_peer_is_told_with_those_that_exist() {
    let answer =
        r#"{"error":{"reason":"unknown_peer","message":"there is no peer \"q\\u001b\"; there are: b\u001b, phone"}}"#;
    for command in ["ping q", "why q"] {
        let (directory, served) = daemon(answer);
        let shown = ask_for(&directory, command);
        served.join().unwrap();
        let expected = "handfast: there is no peer \"q\\u001b\"; there are: b , phone\n";
        assert_eq!((shown.exit, shown.output.as_str(), shown.error.as_str()), (Exit::Failed, "", expected));
    }
}

const NETCHECK: &str = r#"{"netcheck":{"version":1,"ipv4":true,"ipv6":false,
    "observed":[{"by":"c","address":"198.51.100.7:4001"},{"by":"d","address":"198.51.100.7:4003"}],
    "local":[{"address":"10.0.0.5:18502","kind":"local"},{"address":"198.51.100.7:18502","kind":"mapped"}],
    "public_address":false,"same_mapping":false,"port_step":2,"open_filter":false,"hairpin":null,
    "lifetime_seconds":120.0,"keepalive_seconds":25.0,
    "relays":[{"name":"c","state":"connected","rtt_ms":31.0,"mbit":67.1},{"name":"d","state":"idle","rtt_ms":null,"mbit":0.5}],
    "advice":"the router forwards a port"}}"#;

#[test]
fn netcheck_tells_the_nat_in_words() {
    let (directory, served) = daemon(NETCHECK);
    let shown = ask_for(&directory, "netcheck");
    let expected = "\
reaches       IPv4; no member was heard by IPv6
seen at       198.51.100.7:4001 by c
              198.51.100.7:4003 by d
own addresses 10.0.0.5:18502
NAT           another port for each destination (symmetric); ports follow each other in steps of 2
lets in       only packets of members that this node has written to
hairpin       not found out
lifetime      a mapping lives at least 2 min 0 s; a keepalive every 25 s
port mapping  198.51.100.7:18502
relays        c, 31.0 ms, at least 67.1 Mbit/s a member
              d, idle
advice        the router forwards a port
";
    assert_eq!((shown.exit, shown.output.as_str(), shown.error.as_str()), (Exit::Done, expected, ""));
    assert_eq!(served.join().unwrap(), "{\"version\":1,\"command\":\"netcheck\"}\n");
}

#[test]
fn netcheck_in_json_has_every_documented_field() {
    let (directory, served) = daemon(NETCHECK);
    let shown: serde_json::Value = serde_json::from_str(&ask_for(&directory, "netcheck --json").output).unwrap();
    served.join().unwrap();
    is_documented(&shown);
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(NETCHECK).unwrap()["netcheck"]);
}

const WHY: &str = r#"{"why":{"version":1,"peer":"b","verdict":"relayed","explanation":"b is connected\u001b through relay c.",
    "steps":[{"seconds_ago":3.5,"step":"wanted","text":"a packet wanted to go there"}]}}"#;

#[test]
fn why_prints_the_paragraph_or_the_whole_answer() {
    let (directory, served) = daemon_of(&[WHY, WHY]);
    let shown = ask_for(&directory, "why b");
    assert_eq!((shown.exit, shown.output.as_str()), (Exit::Done, "b is connected through relay c.\n"));
    let shown: serde_json::Value = serde_json::from_str(&ask_for(&directory, "why b --json").output).unwrap();
    is_documented(&shown);
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(WHY).unwrap()["why"]);
    let question = "{\"version\":1,\"command\":{\"why\":{\"peer\":\"b\"}}}\n";
    assert_eq!(served.join().unwrap(), question.repeat(2));
}

#[test]
fn an_answer_to_another_question_is_not_taken_for_one() {
    for command in ["status", "peers", "netcheck", "why b", "ping b"] {
        let (directory, served) = daemon(if command == "netcheck" { WHY } else { NETCHECK });
        let shown = ask_for(&directory, command);
        served.join().unwrap();
        assert_eq!((shown.exit, shown.output.as_str()), (Exit::Failed, ""), "{command}");
        assert!(shown.error.contains("does not speak this version"), "{}", shown.error);
    }
}

#[test]
fn none_of_them_works_without_a_daemon() {
    for command in ["peers", "ping b", "netcheck", "why b"] {
        failure(&format!("{command} --socket /nonexistent/hf0.sock"), Exit::NoDaemon);
    }
}

// ---- the program itself

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_handfast"))
}

#[test]
fn the_program_ends_with_the_documented_codes() {
    let code = |arguments: &[&str]| {
        let quiet = program().args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.unwrap().code()
    };
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["keygen", "--out", "/proc/nothing/key"]), Some(1));
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&["check", "/nonexistent.toml"]), Some(3));
    assert_eq!(code(&["status", "--socket", "/nonexistent.sock"]), Some(4));
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let mut child = program().arg("--help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn an_unintelligible_log_filter_is_named() {
    let (_directory, config) = node("");
    let ended =
        program().args([Path::new("up"), Path::new("--config"), &config]).env("HANDFAST_LOG", "handfast=loud").output();
    let ended = ended.unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{error}");
    assert!(error.starts_with("handfast: HANDFAST_LOG = \"handfast=loud\": ") && error.lines().count() == 1, "{error}");
}
