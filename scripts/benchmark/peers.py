"""The tunnels that can be measured, and how each is set up between the two namespaces.

Each keeps its own defaults. WireGuard's have no MTU of their own and get 1420, as its tools would choose here.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cable import OTHER, SIDES, Cable, Failure, Side, run

HANDFAST = "handfast"
VETH = "veth"
WIREGUARD_MTU = 1420

# Starts one side of a tunnel.
Start = Callable[[Side], None]


@dataclass(frozen=True)
class Peer:
    """One tunnel: the programs that it needs, how to ask for its version, and what prepares both its sides."""

    name: str
    cipher: str
    programs: tuple[str, ...]
    version: tuple[str, ...]
    prepare: Callable[[Cable], Start]

    def is_installed(self) -> bool:
        return all(shutil.which(program) for program in self.programs)

    def find_version(self) -> str:
        if not self.version:
            return ""
        said = subprocess.run(self.version, capture_output=True, text=True)
        return next((line.strip() for line in (said.stdout + said.stderr).splitlines() if re.search(r"\d", line)), "unknown")

    def bring_up(self, cable: Cable) -> None:
        start = self.prepare(cable)
        for side in SIDES:
            start(side)
        for side in SIDES:
            cable.wait_for_answer(side)


def handfast(program: str, mtu: int | None) -> Peer:
    def prepare(cable: Cable) -> Start:
        keys = {side: run(program, "keygen", "--out", cable.files / f"{side}.key").strip() for side in SIDES}

        def start(side: Side) -> None:
            other = OTHER[side]
            configuration = cable.write(
                f"{side}.toml",
                f"""
[interface]
name = "{cable.device[side]}"
addresses = ["{cable.overlay[side]}/24"]
{f"mtu = {mtu}" if mtu else ""}
[identity]
key_file = "{cable.files}/{side}.key"
[control]
socket = "{cable.files}/{side}.sock"
[[peer]]
name = "{other}"
public_key = "{keys[other]}"
endpoints = ["{cable.underlay[other]}:18502"]
prefixes = ["{cable.overlay[other]}/32"]
""",
            )
            # As systemd/handfast.service does; the other services leave the priority alone.
            cable.start(side, "nice", "-n", "-15", program, "up", "--config", configuration, output=f"{side}.log")
            cable.wait_for_device(side)

        return start

    return Peer(HANDFAST, "AES-256-GCM", (program,), (program, "--version"), prepare)


def veth() -> Peer:
    def prepare(cable: Cable) -> Start:
        cable.overlay = cable.underlay
        return lambda side: None

    return Peer(VETH, "none", (), (), prepare)


def wireguard(name: str, program: str, logs_to_file: bool = False) -> Peer:
    """An implementation that is configured by wg."""

    def prepare(cable: Cable) -> Start:
        secret = {side: run("wg", "genkey") for side in SIDES}
        public = {side: run("wg", "pubkey", stdin=secret[side]).strip() for side in SIDES}

        def start(side: Side) -> None:
            other, device = OTHER[side], cable.device[side]
            socket = Path(f"/var/run/wireguard/{device}.sock")
            cable.leftovers.append(socket)
            options = ["--disable-drop-privileges", "--log", f"{cable.files}/{side}.out.log"] if logs_to_file else []
            cable.start(side, program, "-f", *options, device, output=f"{side}.log")
            cable.wait_for(str(socket), socket.is_socket)
            cable.wait_for_device(side)
            key = cable.write(f"{side}.key", secret[side])
            peer = ["peer", public[other], "allowed-ips", f"{cable.overlay[other]}/32", "endpoint", f"{cable.underlay[other]}:51820"]
            cable.run(side, "wg", "set", device, "private-key", key, "listen-port", "51820", *peer)
            cable.join(side, WIREGUARD_MTU)

        return start

    return Peer(name, "ChaCha20-Poly1305", (program, "wg"), (program, "--version"), prepare)


def nebula() -> Peer:
    def prepare(cable: Cable) -> Start:
        files = cable.files
        run("nebula-cert", "ca", "-name", "bench", "-out-crt", files / "ca.crt", "-out-key", files / "ca.key")
        for side in SIDES:
            authority = ["-ca-crt", f"{files}/ca.crt", "-ca-key", f"{files}/ca.key"]
            signed = ["-out-crt", f"{files}/{side}.crt", "-out-key", f"{files}/{side}.key"]
            run("nebula-cert", "sign", *authority, "-name", side, "-ip", f"{cable.overlay[side]}/24", *signed)

        def start(side: Side) -> None:
            other = OTHER[side]
            lighthouse = "am_lighthouse: true" if side == "a" else f'hosts: ["{cable.overlay["a"]}"]'
            configuration = cable.write(
                f"{side}.yml",
                f"""
pki: {{ca: {files}/ca.crt, cert: {files}/{side}.crt, key: {files}/{side}.key}}
static_host_map: {{"{cable.overlay[other]}": ["{cable.underlay[other]}:4242"]}}
lighthouse: {{{lighthouse}}}
listen: {{host: 0.0.0.0, port: 4242}}
cipher: aes
tun: {{dev: {cable.device[side]}}}
logging: {{level: warning}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
""",
            )
            cable.start(side, "nebula", "-config", configuration, output=f"{side}.log")
            cable.wait_for_device(side)

        return start

    return Peer("nebula", "AES-256-GCM", ("nebula", "nebula-cert"), ("nebula", "-version"), prepare)


def tinc() -> Peer:
    def prepare(cable: Cable) -> Start:
        for side in SIDES:
            home = f"tinc-{side}"
            connect = "ConnectTo = a\n" if side == "b" else ""
            cable.write(f"{home}/tinc.conf", f"Name = {side}\nInterface = {cable.device[side]}\nDeviceType = tun\n{connect}")
            cable.write(f"{home}/tinc-up", "#!/bin/sh\n", 0o700)
            cable.write(f"{home}/hosts/{side}", f"Address = {cable.underlay[side]}\nSubnet = {cable.overlay[side]}/32\n")
            # It asks for the names of two files, and has good proposals.
            run("tincd", "-c", cable.files / home, "-K", "2048", stdin="\n\n")
        for side in SIDES:
            shutil.copy(cable.files / f"tinc-{side}/hosts/{side}", cable.files / f"tinc-{OTHER[side]}/hosts/{side}")

        def start(side: Side) -> None:
            home = cable.files / f"tinc-{side}"
            cable.start(side, "tincd", "-c", home, "-D", f"--pidfile={home}/pid", output=f"{side}.log")
            cable.join(side)

        return start

    return Peer("tinc", "AES-256-CBC + SHA-256", ("tincd",), ("tincd", "--version"), prepare)


def fastd() -> Peer:
    def prepare(cable: Cable) -> Start:
        secret, public = {}, {}
        for side in SIDES:
            secret[side], public[side] = re.findall(r"(?:Secret|Public): (\w+)", run("fastd", "--generate-key"))

        def start(side: Side) -> None:
            other = OTHER[side]
            configuration = cable.write(
                f"{side}.conf",
                f"""
log level warn;
mode tun;
interface "{cable.device[side]}";
method "salsa2012+umac";
mtu 1426;
bind {cable.underlay[side]}:10000;
secret "{secret[side]}";
peer "{other}" {{ key "{public[other]}"; remote {cable.underlay[other]}:10000; }}
""",
            )
            cable.start(side, "fastd", "-c", configuration, output=f"{side}.log")
            cable.join(side)

        return start

    return Peer("fastd", "Salsa20/12 + UMAC", ("fastd",), ("fastd", "--version"), prepare)


def openvpn() -> Peer:
    def prepare(cable: Cable) -> Start:
        fingerprint = {}
        for side in SIDES:
            key, certificate = cable.files / f"{side}.key", cable.files / f"{side}.crt"
            kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={side}"]
            run("openssl", "req", "-x509", *kind, "-keyout", key, "-out", certificate)
            fingerprint[side] = run("openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]

        def start(side: Side) -> None:
            other = OTHER[side]
            role = ["--tls-server", "--dh", "none"] if side == "a" else ["--tls-client", "--remote", cable.underlay["a"], "1194"]
            identity = ["--cert", f"{side}.crt", "--key", f"{side}.key", "--peer-fingerprint", fingerprint[other]]
            device = ["--dev", cable.device[side], "--dev-type", "tun", "--ifconfig", cable.overlay[side], cable.overlay[other]]
            options = ["--proto", "udp", "--data-ciphers", "AES-256-GCM", "--disable-dco", "--verb", "1"]
            cable.start(side, "openvpn", *device, *role, *identity, *options, output=f"{side}.log")
            cable.wait_for_device(side)

        return start

    return Peer("openvpn", "AES-256-GCM", ("openvpn", "openssl"), ("openvpn", "--version"), prepare)


def vpncloud() -> Peer:
    def prepare(cable: Cable) -> Start:
        def start(side: Side) -> None:
            device = ["--type", "tun", "--mode", "router", "--device", cable.device[side], "--no-port-forwarding"]
            claim = ["--no-auto-claim", "--claim", f"{cable.overlay[side]}/32", "--password", "bench"]
            # It looks up its own address by a route to the internet, and ends if there is none. This one leads to the other side.
            cable.ip(side, "route", "add", "default", "via", cable.underlay[OTHER[side]])
            listen = ["--listen", f"{cable.underlay[side]}:3210", "--connect", f"{cable.underlay[OTHER[side]]}:3210"]
            cable.start(side, "vpncloud", *device, *claim, *listen, output=f"{side}.log")
            cable.join(side)

        return start

    return Peer("vpncloud", "AES-GCM", ("vpncloud",), ("vpncloud", "--version"), prepare)


def every_peer(program: str, mtu: int | None) -> dict[str, Peer]:
    """All of them by name, installed or not, in the order in which they are measured and shown."""
    peers = [
        handfast(program, mtu),
        veth(),
        wireguard("wireguard-go", "wireguard-go"),
        wireguard("gotatun", "gotatun", logs_to_file=True),
        wireguard("boringtun", "boringtun-cli", logs_to_file=True),
        nebula(),
        tinc(),
        fastd(),
        openvpn(),
        vpncloud(),
    ]
    return {peer.name: peer for peer in peers}


def choose(peers: dict[str, Peer], names: list[str]) -> list[Peer]:
    """Those that were named, or all that are installed."""
    if not names:
        return [peer for peer in peers.values() if peer.is_installed()]
    for name in names:
        if name not in peers:
            raise Failure(f"there is no peer {name}; there are {', '.join(peers)}")
        if not peers[name].is_installed():
            raise Failure(f"{name} needs {' and '.join(peers[name].programs)} in the PATH")
    return [peers[name] for name in dict.fromkeys(names)]
