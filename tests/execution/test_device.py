"""`--device auto` takes CUDA only where the doctor's test has passed. GPUs are pretended here."""

import json

import pytest
import torch

from sac_bench.errors import InputError
from sac_bench.execution import doctor, self_test
from sac_bench.execution.device import Choice, keep, resolve_device, result_of
from sac_bench.execution.worker_options import WorkerOptions
from sac_bench.store.doctor import Verdict

GPUS = ("NVIDIA H100", "NVIDIA H200")
PASSED = {
    "problems": [],
    "error": 1e-5,
    "updates_per_second": 2e4,
    "peak_bytes": 3e8,
    "compiled": True,
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def gpus(monkeypatch):
    """A machine with two GPUs of different models."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: GPUS[int(str(name).removeprefix("cuda:"))])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (7 * 10**9, 8 * 10**9))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_auto_takes_cuda_once_every_model_has_passed(gpus):
    untested = "CUDA is available but untested here: run `sac-bench doctor`; until then, auto means the CPU"
    assert resolve_device("auto") == Choice("cpu", untested)
    keep(GPUS[0], PASSED)
    assert resolve_device("auto") == Choice("cpu", untested)
    keep(GPUS[1], PASSED)
    assert resolve_device("auto") == Choice("cuda")
    keep(GPUS[1], {"problems": ["two equal runs ended in different bytes"]})
    chosen = resolve_device("auto")
    assert chosen.device == "cpu"
    assert "failed `sac-bench doctor` on NVIDIA H200: two equal runs ended in different bytes" in chosen.note


def test_a_request_for_a_device_asks_no_test(gpus):
    assert resolve_device("cuda") == Choice("cuda")
    assert resolve_device("cpu") == Choice("cpu")


def test_a_test_counts_for_its_version_of_torch_only(gpus, monkeypatch):
    keep(GPUS[0], PASSED)
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert result_of(GPUS[0]) is None


def test_a_damaged_result_is_no_result(gpus):
    path = keep(GPUS[0], PASSED)
    for text in ("", "[]", json.dumps({"problems": 3})):
        path.write_text(text)
        assert result_of(GPUS[0]) is None


def test_without_a_gpu_auto_is_the_cpu_and_says_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == Choice("cpu")


def test_workers_have_the_line_for_the_user_and_gpus_of_an_untested_device_are_refused_with_it(gpus):
    assert "run `sac-bench doctor`" in WorkerOptions().choose(1).note
    with pytest.raises(InputError, match=r"--gpus 0: this command trains on the CPU; .*sac-bench doctor"):
        WorkerOptions(gpus="0").choose()


def test_the_doctor_tests_each_model_once_and_keeps_what_it_finds(gpus, monkeypatch):
    ran = []

    def run(kind, gpu):
        ran.append((kind, gpu))
        return PASSED if gpu != "1" else {"problems": ["no"]}

    monkeypatch.setattr(doctor, "run_self_test", run)
    findings = list(doctor.tested_devices())
    assert ran == [("cpu", None), ("cuda", "0"), ("cuda", "1")]
    assert [one.verdict for one in findings] == [Verdict.GOOD, Verdict.GOOD, Verdict.REFUSED]
    assert "20,000 updates/s" in findings[1].text
    assert result_of(GPUS[0]) == PASSED
    assert doctor.machine()["GPU 1"] == "NVIDIA H200, 7.0 GB of 8.0 GB of memory free"


def test_a_test_that_ends_without_a_result_has_failed(monkeypatch):
    monkeypatch.setattr(doctor.sys, "executable", "false")
    assert doctor.run_self_test("cpu", None)["problems"] == ["the test ended with exit code 1: "]


@pytest.mark.thorough
def test_the_cpu_passes_and_rounded_products_and_unequal_runs_do_not(monkeypatch):
    monkeypatch.setattr(self_test, "TIMED_SECONDS", 0.0)
    passed = self_test.self_test("cpu", compiled=False)
    assert passed["problems"] == []
    assert passed["error"] < 1e-4
    made, seen = self_test.made, []

    def rounded(device, precision, compiled):
        seen.append(precision)
        cohort, replay = made(device, "bfloat16" if precision == "float32" else precision, compiled)
        if len(seen) == 3:
            cohort.state["params"]["actor"][0].bias.view(-1)[0] += 1e-7
        return cohort, replay

    monkeypatch.setattr(self_test, "made", rounded)
    failed = self_test.self_test("cpu", compiled=False)
    assert failed["error"] > self_test.MAX_ERROR
    assert [problem.split()[0] for problem in failed["problems"]][-1] == "two"
