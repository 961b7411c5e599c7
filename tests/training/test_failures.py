import pytest

from osteo_models.training.failures import explain_failures, name_reason

RELIEF = "give the workers more memory, or fewer trials at once (`experiments.resources`), or lower `batch_size`"
PYTORCH = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 384 bytes. Error code 12"
RAY = "Task was killed due to the node running low on memory."
GPU = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Traceback\n  File x\nMemoryError: Unable to allocate 3 TiB\n", "MemoryError: Unable to allocate 3 TiB"),
        (f"RuntimeError: [enforce fail]\n{PYTORCH}\nat line 5", PYTORCH),
        (f"{RAY}\nMemory on the node was 22 GB.\nTo change the threshold, set RAY_x", RAY),
        (GPU, GPU),
    ],
)
def test_want_of_memory_is_named_with_the_way_out(text: str, reason: str) -> None:
    error = explain_failures([RuntimeError(text), ValueError("other")], 5, "stage-1 a")
    assert str(error) == f"stage-1 a: 2 of 5 trials failed: out of memory on a worker ({reason}); {RELIEF}"


def test_a_worker_that_died_may_have_wanted_memory() -> None:
    error = explain_failures([RuntimeError("The actor died unexpectedly before finishing this task.\nx")], 1, "a")
    assert str(error) == f"a: 1 of 1 trials failed: its worker process died, 3 times; if memory ran out, {RELIEF}"


def test_any_other_reason_is_the_last_line() -> None:
    error = explain_failures([RuntimeError("Traceback\n  File x\nValueError: no\n")], 1, "a")
    assert str(error) == "a: 1 of 1 trials failed: ValueError: no"


def test_of_several_failures_of_a_trial_want_of_memory_is_the_reason() -> None:
    text = f"Failure # 1 (occurred at x)\n{RAY}\nFailure # 2 (occurred at y)\nThe actor died unexpectedly.\nNode: z\n"
    assert name_reason(text) == f"out of memory on a worker ({RAY})"
    assert name_reason(text.replace(RAY, "The actor died unexpectedly.")) == "its worker process died, 3 times"
    assert name_reason("MemoryError\n") == "out of memory on a worker (MemoryError)"
