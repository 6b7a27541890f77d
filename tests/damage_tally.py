"""What became of damaged inputs: counted, timed, and told."""

import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from zeroshot.errors import ZeroShotError

SLOWEST = (
    20.0  # seconds, against endless loops; 2 are promised, the machine may be busy
)
MOST_MEMORY = 300 << 20


class Tally:
    """Counts of what was done with damaged inputs of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self.others: list[object] = []  # numbers of the inputs with another answer
        self._start = _peak()

    def add(
        self, use: Callable[[], object], right: object, case: object = None
    ) -> None:
        """Use an input: it must give the right answer, or an error of ours."""
        start = time.perf_counter()
        result = "refused"
        with warnings.catch_warnings(), suppress(ZeroShotError):
            warnings.simplefilter("ignore")
            result = "right" if use() == right else "other answer"
        self.slowest = max(self.slowest, time.perf_counter() - start)
        self.counts[result] += 1
        if result == "other answer":
            self.others.append(case)

    def check(self, *, may_change: bool = False) -> None:
        """Print the counts; fail for another answer that may not be, or for cost."""
        grown = _peak() - self._start
        counts = ", ".join(f"{n} {result}" for result, n in self.counts.most_common())
        sys.stdout.write(
            f"\n{self.kind}: {counts}; slowest {self.slowest:.2f} s, peak memory "
            f"+{grown >> 20} MiB\n"
        )
        assert may_change or not self.others, (self.kind, self.others[:10])
        assert self.slowest < SLOWEST
        assert grown < MOST_MEMORY


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
