"""How long `zeroshot --help` takes, beside a hello-world of typer.

Prints the medians of interleaved runs and their ratio (at most 2.5 is wanted)::

    python benchmarks/command_line.py [RUNS]
"""

import statistics
import subprocess
import sys
import time

from pages import markdown_table

RUNS = 20
WANTED = 2.5  # times the hello-world

HELLO = """
import typer
app = typer.Typer()
@app.command()
def hello(name: str) -> None:
    print(f"Hello {name}")
app()
"""
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "typer hello-world --help": [sys.executable, "-c", HELLO, "--help"],
    "zeroshot --help": [sys.executable, "-m", "zeroshot", "--help"],
    "zeroshot fit --help": [sys.executable, "-m", "zeroshot", "fit", "--help"],
    "zeroshot backbones": [sys.executable, "-m", "zeroshot", "backbones"],
}


def measure(runs: int) -> dict[str, float]:
    """Return the median seconds of each command, the runs interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if run:  # the first fills the disk cache and writes bytecode
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    medians = measure(runs)
    hello = medians["typer hello-world --help"]
    print(f"Medians of {runs} interleaved runs, Python {sys.version.split()[0]}\n")
    rows = [
        (f"`{name}`", f"{median:.3f}", f"{median / hello:.2f}")
        for name, median in medians.items()
    ]
    print(markdown_table(("command", "seconds", "x hello-world"), rows))
    ratio = medians["zeroshot --help"] / hello
    print(f"\nzeroshot --help: {ratio:.2f}, wanted at most {WANTED}")


if __name__ == "__main__":
    main()
