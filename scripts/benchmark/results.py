"""A run's results: kept as JSON, shown as tables, and compared with an earlier run's."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from measures import MEASURES, Measure
from peers import HANDFAST

FEWEST_TO_COMPARE = 4
RATIO = ".3g"

# By measure, by peer: one value for each repetition, None where there is none.
Samples = dict[str, dict[str, list[float | None]]]


@dataclass
class Results:
    """Everything that one run found."""

    machine: dict[str, str]
    # What has to be the same in two runs that are compared.
    settings: dict[str, float | None]
    # By peer.
    versions: dict[str, str] = field(default_factory=dict)
    mtus: dict[str, int] = field(default_factory=dict)
    ciphers: dict[str, str] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)
    # By measure, by peer: processors that others used meanwhile.
    foreign: Samples = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, measure: str, peer: str, value: float | None, foreign: float | None) -> None:
        self.samples.setdefault(measure, {}).setdefault(peer, []).append(value)
        self.foreign.setdefault(measure, {}).setdefault(peer, []).append(foreign)

    def save(self, directory: Path) -> Path:
        moment = self.machine["date"].replace(":", "").replace("-", "")
        file = directory / f"{moment}-{self.machine['revision']}.json"
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return file

    def measures(self) -> list[Measure]:
        return [measure for measure in MEASURES.values() if measure.name in self.samples]

    def values(self, measure: Measure, peer: str) -> list[float]:
        return present(self.samples.get(measure.name, {}).get(peer, []))

    def ratios(self, measure: Measure, other: str) -> list[float]:
        """Handfast's value over the other's, of each repetition: the two were measured minutes apart."""
        by_peer = self.samples.get(measure.name, {})
        pairs = zip(by_peer.get(HANDFAST, []), by_peer.get(other, []))
        return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]


def load(file: Path) -> Results:
    return Results(**json.loads(file.read_text()))


def find_last(directory: Path, like: Results) -> Path | None:
    """The newest kept run that can be compared: on the same kind of machine, with the same settings and enough repetitions."""
    for file in sorted(directory.glob("*.json"), reverse=True):
        try:
            kept = load(file)
        except (ValueError, TypeError):
            continue
        same_machine = kept.machine.get("processor") == like.machine["processor"]
        has_enough = any(len(kept.values(measure, HANDFAST)) >= FEWEST_TO_COMPARE for measure in like.measures())
        if same_machine and kept.settings == like.settings and has_enough:
            return file
    return None


def table(results: Results) -> str:
    """Medians and extremes of every peer."""
    measures = results.measures()
    head = ["peer", "cipher", "MTU", *(f"{one.title}, {one.unit} {'↑' if one.more_is_better else '↓'}" for one in measures)]
    rows = []
    for peer, cipher in results.ciphers.items():
        cells = [cell(results.values(one, peer), f",.{one.decimals}f") for one in measures]
        rows.append([peer, cipher, str(results.mtus.get(peer, "-")), *cells])
    return markdown(head, rows)


def ratio_table(results: Results) -> str:
    """How many times as much Handfast has of everything."""
    measures = results.measures()
    head = ["Handfast / peer", *(f"{one.title} {'↑' if one.more_is_better else '↓'}" for one in measures)]
    others = [peer for peer in results.versions if peer != HANDFAST]
    return markdown(head, [[other, *(cell(results.ratios(one, other), RATIO) for one in measures)] for other in others])


def comparison(now: Results, then: Results) -> str:
    """What has changed since an earlier run, as ratios to the peers that were measured in both."""
    others = [peer for peer in now.versions if peer != HANDFAST and then.versions.get(peer) == now.versions[peer]]
    rows: list[list[str]] = []
    changes: list[str] = []
    for measure in now.measures():
        cells = []
        for other in others:
            before, after = then.ratios(measure, other), now.ratios(measure, other)
            cells.append(f"{statistics.median(before):{RATIO}} → {statistics.median(after):{RATIO}}" if before and after else "-")
            if min(len(before), len(after)) >= FEWEST_TO_COMPARE:
                verdict = judge(measure, before, after)
                cells[-1] += f" **{verdict}**" if verdict else ""
                changes.append(f"{measure.title}, against {other}: {verdict} than last time" if verdict else "")
        rows.append([measure.title, *cells])
    said = [change for change in changes if change]
    if not changes:
        said = [f"Too little to judge by: it takes {FEWEST_TO_COMPARE} repetitions in both runs."]
    elif not said:
        said = ["Nothing is slower or better than last time beyond the noise."]
    return "\n".join([markdown(["measure", *others], rows), "", *said])


def judge(measure: Measure, before: list[float], after: list[float]) -> str:
    """How ratios have changed beyond the noise: all of one run lie above all of the other. Else nothing."""
    if min(after) > max(before):
        return "better" if measure.more_is_better else measure.worse
    if max(after) < min(before):
        return measure.worse if measure.more_is_better else "better"
    return ""


def cell(values: list[float], form: str) -> str:
    if not values:
        return "-"
    middle, least, most = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} [{least}-{most}]"


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
