"""The Dockerfile and the workflow name files and commands that exist."""

import re
import shlex
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).parents[1]


def instructions():
    """Return (instruction, arguments) of the Dockerfile, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined]


def test_the_dockerfile_copies_files_that_exist_and_that_are_not_ignored():
    sources = [one for word, rest in instructions() if word == "COPY" for one in shlex.split(rest)[:-1]]
    assert {"requirements.lock", "sac_bench", "experiments"} <= set(sources)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not any(PurePosixPath(source).match(pattern) for pattern in ignored), source


def test_the_image_starts_the_command_of_the_package():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (entry,) = [rest for word, rest in instructions() if word == "ENTRYPOINT"]
    assert f"{entry[2:-2]} = " in project.partition("[project.scripts]")[2]
    (base,) = [rest for word, rest in instructions() if word == "FROM"]
    least = re.search(r'requires-python = ">=3\.(\d+)"', project)[1]
    assert int(re.fullmatch(r"python:3\.(\d+)-slim", base)[1]) >= int(least)


def test_the_image_has_the_files_that_the_build_of_the_package_reads():
    copied = {one for word, rest in instructions() if word == "COPY" for one in shlex.split(rest)[:-1]}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = {re.search(r'readme = "(.*)"', project)[1], *re.search(r'license-files = \["(.*)"\]', project).groups()}
    link = (ROOT / "sac_bench" / "experiments").readlink().name
    assert needed | {link, "pyproject.toml", "sac_bench"} <= copied


def test_the_workflow_runs_targets_of_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["check"]
    commands = job["strategy"]["matrix"]["command"]
    assert len(commands) == 2
    targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    known = {name for line in targets for name in line.split()}
    options = re.findall(r"\$\(if \$\((\w+)\)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    for command in commands:
        make, target, *settings = shlex.split(command)
        assert make == "make"
        assert target in known
        assert {one.partition("=")[0] for one in settings} <= set(options)
    python = next(step["with"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert (ROOT / python["cache-dependency-path"]).exists()
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in job["steps"] if "uses" in step)
