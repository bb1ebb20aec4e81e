"""Measures Handfast side by side with other tunnels: see scripts/bench, which starts this."""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import measures
import peers
import results
from cable import Cable, Failure
from machine import Foreign, description, pin
from measures import Measure, Meter
from peers import Peer
from results import Results

LOOK_SECONDS = 0.5
EXPLANATION = """
measures:
  rtt50 rtt99  UDP round trips of 64 bytes, one at a time, a thousand a second
  tcp1 tcp4    iperf3 with one stream, and with four
  cpu          processor time of both daemons for each GB of the one stream
  ping         ping while one stream saturates the tunnel
  udp64        packets of 64 bytes that arrive, while more are sent than can
  memory       resident after that flood, and what was measured before it; of the larger daemon
  loss         iperf3 with one stream, while the cable loses 1 % of all datagrams in each direction

Repetitions are interleaved: the first of all peers, the second of all, and so on. A measurement during which other
processes used more than --quiet processors is repeated, and the least disturbed one counts.

Machines differ and are shared, so only ratios within one run mean something. The comparison with the last run is
of the ratios Handfast / peer: one is called slower (or costlier) if every repetition's ratio is worse than every one
of last time's, with at least 4 repetitions in each. By chance alone that happens to one comparison in 250 with 5
repetitions, and to one in 70 with 4. A peer of another version than last time is left out.
"""


class Pace:
    """How long the run may wait for a quiet machine, in all, and when to repeat a measurement."""

    def __init__(self, quiet: float, patience: float) -> None:
        self.quiet = quiet
        self.patience = patience

    def wait(self) -> None:
        while self.patience > 0:
            foreign = Foreign()
            time.sleep(LOOK_SECONDS)
            if foreign.cores() <= self.quiet:
                return
            self.patience -= LOOK_SECONDS

    def measure(self, meter: Meter, run: str) -> tuple[measures.Values, float]:
        """What the least disturbed of up to three tries found, and how many processors others used meanwhile."""
        tries: list[tuple[float, measures.Values]] = []
        while True:
            self.wait()
            began = time.monotonic()
            foreign = Foreign()
            values = meter.runs[run]()
            tries.append((foreign.cores(), values))
            if tries[-1][0] <= self.quiet or len(tries) == 3 or self.patience <= 0:
                cores, values = min(tries, key=lambda one: one[0])
                return values, cores
            self.patience -= time.monotonic() - began


def main() -> None:
    options = parse()
    every = peers.every_peer(options.handfast, options.handfast_mtu)
    try:
        wanted = measures.choose(options.only)
        chosen = [every[name] for name in options.peers] if options.dry_run else peers.choose(every, options.peers)
    except KeyError as unknown:
        raise SystemExit(f"bench: there is no peer {unknown}; there are {', '.join(every)}")
    except Failure as failure:
        raise SystemExit(f"bench: {failure}")
    if options.cpus:
        pin(options.cpus)
    if options.dry_run:
        return

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    settings = {"cpus": options.cpus, "seconds": options.seconds, "handfast_mtu": options.handfast_mtu}
    found = Results(description() | {"program": options.handfast}, settings)
    for peer in chosen:
        found.versions[peer.name] = peer.find_version()
        found.ciphers[peer.name] = peer.cipher
    measure_all(options, chosen, wanted, found)
    last = options.against or results.find_last(options.results, found)
    kept = found.save(options.results)
    report(found, kept, last, options.quiet)
    raise SystemExit(1 if found.failures else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures Handfast side by side with the tunnels that are installed, in network namespaces.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--reps", type=positive, default=5, metavar="N", help="repetitions (default: 5)")
    parser.add_argument("--seconds", type=positive, default=4, metavar="N", help="length of each measurement (default: 4)")
    parser.add_argument("--only", type=names, default=[], metavar="MEASURE,...", help="only these, see below")
    parser.add_argument("--peers", type=names, default=[], metavar="PEER,...", help="only these (default: all that are installed)")
    parser.add_argument("--cpus", type=positive, metavar="N", help="everything on the first N processors")
    parser.add_argument("--handfast-mtu", type=positive, metavar="N", help="MTU of Handfast's interface (default: its own)")
    parser.add_argument("--quiet", type=float, default=0.1, metavar="N", help="processors that others may use (default: 0.1)")
    patience = "for waiting and repeating, in all, where others use more (default: 300)"
    parser.add_argument("--patience", type=float, default=300, metavar="SECONDS", help=patience)
    parser.add_argument("--against", type=Path, metavar="FILE", help="kept run to compare with (default: the last with the same settings)")
    for given in ("--handfast", "--probe", "--results"):
        parser.add_argument(given, type=Path if given == "--results" else str, default="", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def interrupt(number: int, _: FrameType | None) -> None:
    """Unwinds, so that everything is removed; what comes now must not interrupt that."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    print("\nInterrupted; everything is removed again.", file=sys.stderr)
    raise SystemExit(128 + number)


def measure_all(options: argparse.Namespace, chosen: list[Peer], wanted: list[Measure], found: Results) -> None:
    pace = Pace(options.quiet, options.patience)
    for repetition in range(1, options.reps + 1):
        for peer in chosen:
            print(f"{repetition}/{options.reps} {peer.name:14}", end="", flush=True)
            measure_one(options, peer, wanted, found, pace)
            print(flush=True)


def measure_one(options: argparse.Namespace, peer: Peer, wanted: list[Measure], found: Results, pace: Pace) -> None:
    """One repetition of one peer, with daemons of its own."""
    values: measures.Values = {}
    foreign: dict[str, float] = {}
    try:
        with Cable() as cable:
            peer.bring_up(cable)
            found.mtus[peer.name] = cable.mtu()
            meter = Meter(cable, peer, options.probe, options.seconds)
            for run in dict.fromkeys(measure.run for measure in wanted):
                try:
                    got, foreign[run] = pace.measure(meter, run)
                except Failure as failure:
                    note(found, f"{peer.name}, {run}: {failure}")
                    cable.wait_for_answer("a")
                    continue
                values |= got
                print("".join(f"  {name} {value:.4g}" for name, value in got.items() if value is not None), end="", flush=True)
    except Failure as failure:
        note(found, f"{peer.name}: {failure}")
    for measure in wanted:
        found.add(measure.name, peer.name, values.get(measure.name), foreign.get(measure.run))


def note(found: Results, failure: str) -> None:
    found.failures.append(failure)
    print("  FAILED", end="", flush=True)


def report(found: Results, kept: Path, last: Path | None, quiet: float) -> None:
    print(f"\n{found.machine['date']}, {found.machine['revision']}, Linux {found.machine['kernel']}, {found.machine['processor']}")
    print("".join(f"\n{peer}: {version}" for peer, version in found.versions.items() if version))
    print(f"\n{results.table(found)}\n\n↑ more is better, ↓ less is better; median [least-most]")
    if peers.HANDFAST in found.versions and len(found.versions) > 1:
        print(f"\n{results.ratio_table(found)}")
    shares = [share for by_peer in found.foreign.values() for row in by_peer.values() for share in results.present(row)]
    disturbed = sum(share > quiet for share in shares)
    if disturbed:
        print(f"\n{disturbed} of {len(shares)} values were disturbed: others used more than {quiet} processors, {max(shares):.1f} at most.")
    if last:
        then = results.load(last)
        print(f"\nHandfast / peer, last time ({then.machine['date']}, {then.machine['revision']}) → now:\n")
        print(results.comparison(found, then))
    else:
        print(f"\nThere is no earlier run of the same settings, with {results.FEWEST_TO_COMPARE} repetitions or more, to compare with.")
    for failure in found.failures:
        print(f"\nFAILED: {failure}", file=sys.stderr)
    print(f"\nKept as {kept}")


main()
