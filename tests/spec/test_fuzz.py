"""For any file or command line: exit code 0, or 2 with lines that name the places; nothing is written.

SAC_BENCH_FUZZ=3000 tries that many random cases per test. By default there are few, always the same.
"""

import copy
import faulthandler
import io
import os
import sys
import tempfile
import tomllib
from datetime import UTC
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sac_bench.cli import main as cli
from sac_bench.errors import one_line
from sac_bench.options.sac import SACConfig
from sac_bench.workflow import run as workflow
from tests.conftest import EXPERIMENT

CASES = os.environ.get("SAC_BENCH_FUZZ")
FUZZ = settings(
    max_examples=int(CASES or 25),
    derandomize=not CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # of a loaded machine
)


def sac_bench(*arguments, **files):
    """Run the command in this process, in a folder with tiny.toml and these files; return exit code and stderr."""
    files = {name + ".toml": content for name, content in ({"tiny": EXPERIMENT.encode()} | files).items()}
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        patch.chdir(folder)
        patch.setattr(workflow, "train_and_report", None)  # fails where anything would be trained
        patch.setattr(faulthandler, "is_enabled", lambda: False)  # it cannot write to the standard error of below
        patch.setattr(sys, "argv", ["sac-bench", *arguments])
        patch.setattr(sys, "path", sys.path[:])  # --import changes it
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == files
    return ended.value.code or 0, errors.buffer.getvalue().decode()


def check(code, errors, *words):
    """Check exit code and message; a message must contain `words`."""
    assert code in (0, 2), (code, errors)
    if code == 2:
        assert errors.startswith("sac-bench: "), errors
        assert errors.endswith("\n")
        assert all(line.isprintable() for line in errors[:-1].split("\n")), errors
        assert not [word for word in words if word not in errors], errors


# -- experiment files --------------------------------------------------------------------------------------------------

PLAIN = tomllib.loads(EXPERIMENT + '[variants.td3]\nalgorithm = "td3"\ntau = 0.1\n')
PLAIN["base"]["sac"], PLAIN["base"]["td3"] = {}, {}
ENV = PLAIN["envs"][0]
OPTIONS = list(SACConfig.model_fields)
TABLES = [
    (),
    ("base",),
    ("variants",),
    ("variants", "v-network"),
    ("sweep",),
    ("base", "sac"),
    ("base", "td3"),
    ("on", ENV),
    ("variants", "td3"),
    ("variants", "v-network", "on", ENV),
]
KNOWN = [
    *((key,) for key in [*PLAIN, "algorithm", "success_return"]),
    *((*table, option) for table in TABLES if table not in [(), ("variants",)] for option in OPTIONS),
    *((*table, "steps") for table in [("variants", "v-network"), ("on", ENV), ("variants", "v-network", "on", ENV)]),
    *((*table, "algorithm") for table in [("variants", "v-network"), ("variants", "td3")]),
    ("on",),
    ("variants", "td3", "on"),
    ("base", "td3"),
]
NAMES = [
    "",
    " ",
    ".",
    "..",
    "-",
    "../x",
    "/tmp/x",
    "runs",
    "a" * 101,
    "sac",
    "tau",
    "tau=1",
    "steps",
    "pooled",
    "tanh",
    "a\nb",
    "\r",
    "\x1b[2J",
    "\x00",
    "\u2028",
    "é",
    "ａ",
    "CartPole-v1",
    "gymnasium:",
    "gymnasium:this:Pendulum-v1",
    "gymnasium:CartPole-v0",
    "__class__",
    "{0}",
    "%s",
    "[red]",
    "'",
    '"',
]
BORDERS = [
    0,
    1,
    99,
    100,
    101,
    400,
    401,
    65536,
    65537,
    10**12,
    10**12 + 1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**400,
]
NUMBERS = st.one_of(st.sampled_from(BORDERS), st.integers(), st.floats(), st.floats(0, 1))
TIMES = st.one_of(st.dates(), st.times(), st.datetimes(), st.datetimes(timezones=st.just(UTC)))
TEXT = st.one_of(st.sampled_from(NAMES), st.text(st.characters(exclude_categories=["Cs"])))
SCALARS = st.one_of(NUMBERS, st.booleans(), TEXT, TIMES)
NESTED = st.recursive(
    SCALARS, lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXT, values, max_size=4), max_leaves=8
)
LIKELY = st.one_of(st.integers(1, 1000), st.sampled_from([100, 200, 400, 800]), st.floats(0.001, 1), st.booleans())
VALUES = st.one_of(
    LIKELY, st.lists(LIKELY, max_size=3), NESTED, st.lists(NUMBERS, max_size=4), st.lists(TEXT, max_size=4)
)


def toml(value):
    """Format a value as TOML, with inline tables and fully escaped strings."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(key)} = {toml(part)}' for key, part in value.items())}}}"
    return str(value) if isinstance(value, (int, float)) else value.isoformat()


def mutated(place, value):
    """Return the plain experiment with another value at a place, as the bytes of a file."""
    changed = copy.deepcopy(PLAIN)
    table = changed
    for key in place[:-1]:
        table = table.setdefault(key, {})
    table[place[-1]] = value
    return "\n".join(f"{toml(key)} = {toml(part)}" for key, part in changed.items()).encode()


@pytest.mark.thorough
@FUZZ
@given(st.sampled_from(KNOWN), VALUES)
def test_any_value_of_a_key_is_accepted_or_refused_with_a_clear_error(place, value):
    # A replaced table may be valid in itself and lack what other tables need.
    words = () if len(place) == 1 and isinstance(value, dict) else place[-1:]
    check(*sac_bench("run", "--dry-run", "odd.toml", odd=mutated(place, value)), "odd.toml:", *words)


@pytest.mark.thorough
@FUZZ
@given(st.sampled_from(TABLES), TEXT, VALUES)
def test_any_additional_key_is_accepted_or_refused_with_a_clear_error(table, key, value):
    check(*sac_bench("run", "--dry-run", "odd.toml", odd=mutated((*table, key), value)), "odd.toml:", one_line(key))


PLACES = st.integers(0, len(EXPERIMENT))
TOKENS = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    '"',
    "'",
    '"""',
    "'''",
    "\n",
    "\r",
    "\r\n",
    "#",
    "\\",
    "\\u12",
    "\\UFFFFFFFF",
    "\x00",
    "\x7f",
    "\ufeff",
    "é",
    "name",
    "[base]",
    "[[variants]]",
    "sac.x",
    "1979-05-27T07:32:00Z",
    "1979-13-01",
    "07:32",
    "0x",
    "0b2",
    "1e",
    "1_",
    "+nan",
    "-inf",
    "-0.0",
    "1e400",
    "true",
]
NOISE = st.one_of(
    st.lists(st.sampled_from(TOKENS), max_size=12).map(lambda tokens: "".join(tokens).encode()),
    st.binary(max_size=40),
    st.text().map(lambda text: text.encode(errors="surrogatepass")),
)


@pytest.mark.thorough
@FUZZ
@given(PLACES, PLACES, NOISE)
def test_random_bytes_in_a_file_are_accepted_or_refused_with_a_clear_error(start, end, noise):
    content = EXPERIMENT.encode()
    spliced = content[:start] + noise + content[end:]
    check(*sac_bench("run", "--dry-run", "odd.toml", odd=spliced), "odd.toml:")
    check(*sac_bench("run", "--dry-run", "odd.toml", odd=noise), "odd.toml:")


ABSURD = {
    "nested arrays": b"x = " + b"[" * 100_000,
    "nested tables": b"x = " + b"{x=" * 30_000,
    "a key of many parts": b"name." + b"x." * 5_000 + b"x = 1",
    "an integer of many digits": mutated(("name",), 0).replace(b"= 0", b"= " + b"9" * 100_000),
    "a hexadecimal integer": mutated(("name",), 0).replace(b"= 0", b"= 0x" + b"f" * 100_000),
    "an integer of 65 bits": mutated(("sweep", "gamma"), [2**64]),
    "many seeds": mutated(("seeds",), 10**9),
    "many listed seeds": mutated(("seeds",), list(range(15_000))),
    "many runs": mutated(("seeds",), 9_999),
    "a long sweep": mutated(("sweep", "tau"), [i / 1e5 for i in range(1, 12_000)]),
    "many layers": mutated(("base", "layers"), [8] * 30_000),
    "large layers": mutated(("base", "layers"), [65536] * 64),
    "many environments": mutated(("envs",), ["Hopper-v5"] * 3_000),
    "a long name": mutated(("name",), "x" * 10_000),
    "a long key": b"x" * 100_000 + b" = 1",
    "a large file": b"#" * 10**7,
}


@pytest.mark.thorough
@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", ABSURD)
def test_absurd_sizes_are_refused_at_once(case):
    code, errors = sac_bench("run", "--dry-run", "odd.toml", odd=ABSURD[case])
    check(code, errors, "odd.toml:")
    assert code == 2
    assert len(errors) < 3000


# -- command lines -----------------------------------------------------------------------------------------------------

# No slashes: a random path must not lead out of the test's folder. Nothing random is imported or run.
WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\x00/", exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([name for name in NAMES if "\x00" not in name and "/" not in name]),
    st.sampled_from(
        [
            "\udcff",
            "-x",
            "--",
            "--help",
            "--dry-run",
            "--seeds=",
            "--retrain=1",
            "x" * 300,
            "9" * 400,
            "9" * 5000,
            "tiny.toml",
            "tiny.toml/x",
            "/proc/nowhere",
            "algorithms",
            "environments",
            "experiments",
        ]
    ),
    NUMBERS.map(str),
).filter(lambda word: word != "run" and not word.startswith("--import"))
MODULES = st.sampled_from(["", ".", "..x", "nosuchmodule", "tiny.toml", "a\nb", "é", "-", "\udcff", "x" * 5000])
SETTINGS = st.tuples(st.sampled_from(OPTIONS), WORDS | VALUES.map(toml))
OF_RUN = dict.fromkeys(["seeds", "steps", "env", "variant", "set", "device", "workers", "results", "name"], WORDS)
OF_RUN |= {"import": MODULES}
ONE_OF_RUN = st.sampled_from(list(OF_RUN)).flatmap(lambda name: st.tuples(st.just(f"--{name}"), OF_RUN[name]))
ONE_OF_OTHERS = st.tuples(st.sampled_from(["--results", "--folder"]), WORDS)
WORD = st.tuples(WORDS)


@pytest.mark.thorough
@FUZZ
@given(ONE_OF_RUN)
def test_any_value_of_an_option_is_accepted_or_refused_with_a_clear_error(option):
    check(*sac_bench("run", "--dry-run", "tiny.toml", *option), option[0].removeprefix("--"))


@pytest.mark.thorough
@FUZZ
@given(SETTINGS)
def test_any_value_of_a_setting_is_accepted_or_refused_with_a_clear_error(setting):
    check(*sac_bench("run", "--dry-run", "tiny.toml", "--set", "=".join(setting)), "tiny.toml:", setting[0])


@pytest.mark.thorough
@FUZZ
@given(st.lists(ONE_OF_RUN | SETTINGS.map(lambda setting: ("--set", "=".join(setting))) | WORD, max_size=6))
def test_any_combination_of_options_is_accepted_or_refused_with_a_clear_error(options):
    # --dry-run comes first, where no option can swallow it.
    check(*sac_bench("run", "--dry-run", "tiny.toml", *chain(*options)))


@pytest.mark.thorough
@FUZZ
@given(
    st.lists(st.sampled_from(["list", "status", "report", "gc"]), max_size=1),
    st.lists(ONE_OF_OTHERS | WORD, max_size=3),
)
def test_any_options_of_other_commands_are_accepted_or_refused_with_a_clear_error(command, options):
    check(*sac_bench(*command, *chain(*options)))
