"""gapclose beside diffusers on one GPU: `python tests/benchmarks/gpu.py [--minutes 6] [--tiny]`.

Pipelines of random weights, in the sizes of SD 1.5, SDXL and Flux, draw at 512 pixels: by one call
of diffusers a prompt, as its docs show it, and by `DiffusersGenerator` with each of its options.
Prints images a second, what share of the card's peak the denoiser reaches, and what share of the
time was spent outside of diffusers. Then the larger two draw within 12 GB. What fails, or takes
too long, says why in a line, and the table goes on. `--tiny` tries all of it on a CPU in a minute;
it compiles by no compiler, which alone would take longer.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import logging
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from gapclose.generators import loading, speed
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.pipeline import Pipeline
from gapclose.generators.recipe import Draw
from gapclose.generators.speed import Speed, denoisers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from sized_pipelines import build

# Dense bfloat16, in TFLOPS, rounded, as published; the first that a card's name contains.
PEAKS = {
    **{"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "B200": 2250.0, "A100": 312.0},
    **{"L40S": 362.0, "L4": 121.0, "A10": 125.0, "4090": 165.0, "3090": 71.0, "3060": 25.0},
}
BATCHES = {"SD 1.5": (1, 8, 32), "SDXL": (1, 8, 16), "Flux": (1, 4)}
STEPS = {"SD 1.5": 50, "SDXL": 50, "Flux": 28}  # their defaults in diffusers
FAST: dict[str, list[dict[str, Any]]] = {
    "SD 1.5": [{}, {"compile": True}],
    "SDXL": [{}, {"compile": True}],
    "Flux": [{}, {"compile": True}, {"compile": True, "attention": "cudnn"}],
}
SMALL: list[tuple[str, dict[str, Any]]] = [
    ("SDXL", {"offload": "model"}),
    ("Flux", {"offload": "group"}),
    ("SDXL", {"quantize": "nf4"}),
]
CARD_GIB = 12
PROMPT = "a photo of a red frog on the ship"


@dataclass
class Place:
    """What is measured on, and how much of it."""

    device: str
    tiny: bool
    ends: float
    case_seconds: float

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    @property
    def size(self) -> int:
        return 64 if self.tiny else 512

    def steps(self, name: str) -> int:
        return 2 if self.tiny else STEPS[name]

    def batches(self, name: str) -> tuple[int, ...]:
        return (1, 2) if self.tiny else BATCHES[name]

    def peak(self) -> float | None:
        if self.device == "cpu":
            return None
        card = torch.cuda.get_device_name(0)
        return next((peak for name, peak in PEAKS.items() if name in card), None)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError after so many seconds."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} s")

    if seconds <= 1:
        raise TimeoutError("no time is left")
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(place: Place, label: str, case: Callable[[], None]) -> None:
    """Run a case; of one that fails, print a line."""
    try:
        with limited(min(place.case_seconds, place.ends - time.monotonic())):
            case()
    except Exception as error:  # noqa: BLE001 - the table goes on
        print(f"{label:44}{type(error).__name__}: {loading.first_line(error)}", flush=True)
    gc.collect()
    if place.device != "cpu":
        torch.cuda.empty_cache()


def clocked(call: Callable[[], Any]) -> float:
    """Seconds of a call whose result is on the CPU."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def by_diffusers(place: Place, name: str, pipeline: Any, n: int) -> Any:
    """Draw n images of one prompt as the docs of diffusers show it."""
    return pipeline(
        PROMPT,
        height=place.size,
        width=place.size,
        num_inference_steps=place.steps(name),
        num_images_per_prompt=n,
    )


def flops_per_image(place: Place, name: str, pipeline: Any) -> float:
    """Floating-point operations of all calls of the denoiser for an image."""
    (denoiser,) = denoisers(pipeline)
    seen: list[tuple[Any, Any]] = []
    hook = denoiser.register_forward_pre_hook(
        lambda _, args, options: seen.append((args, options)), with_kwargs=True
    )
    by_diffusers(place, name, pipeline, 1)
    hook.remove()
    args, options = seen[-1]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        denoiser(*args, **options)
    return float(counter.get_total_flops() * len(seen))


def as_loaded(place: Place, pipeline: Any) -> Any:
    """Have the loader find a pipeline that is in memory, where it would read one from a disk."""

    def read(*_: Any, speed: Speed, **__: Any) -> Any:
        pipeline.vae.float()  # as it is loaded
        return pipeline.to(place.device if speed.offload == "none" else "cpu")

    return patch.object(loading, "_read", read)


@contextmanager
def timed_inside() -> Iterator[list[float]]:
    """Give the seconds of each call of diffusers while this is entered."""
    called = Pipeline._call
    taken: list[float] = []

    def timed(*args: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        made = called(*args, **options)
        taken.append(time.perf_counter() - begun)
        return made

    with patch.object(Pipeline, "_call", timed):
        yield taken


def generator(place: Place, n: int | str, options: dict[str, Any]) -> DiffusersGenerator:
    """Make the generator; `pond` stands for what `as_loaded` gives it."""
    half = "float32" if place.device == "cpu" else "bfloat16"
    return DiffusersGenerator(
        "pond", device=place.device, dtype=half, size=place.size, batch_size=n, **options
    )


def measure(place: Place, name: str) -> None:
    """Print the rows of a family."""
    pipeline: Any = None
    plain: dict[int, float] = {}
    flops = 0.0

    def baseline() -> None:
        nonlocal pipeline, flops
        pipeline = build(name, device=place.device, dtype=place.dtype, tiny=place.tiny)
        flops = flops_per_image(place, name, pipeline)  # warms up, too
        for n in place.batches(name):
            seconds = clocked(lambda n=n: by_diffusers(place, name, pipeline, n))
            plain[n] = n / seconds
            row(name, "diffusers", n, plain[n], None, None)

    def row(
        name: str, what: str, n: int, rate: float, first: float | None, outside: float | None
    ) -> None:
        peak = place.peak()
        ratio = "" if first is None else f"{rate / plain[n]:.2f}"
        docs = "" if first is None else f"{rate / plain[min(plain)]:.2f}"
        share = "" if peak is None else f"{100 * flops * rate / (1e12 * peak):.0f} %"
        extra = "" if outside is None else f"{100 * outside:.1f} %"
        begun = "" if first is None else f"{first:.1f} s"
        print(
            f"{name:8}{what:36}{n:>5}{rate:>10.2f}{ratio:>8}{docs:>8}{share:>7}{extra:>9}"
            f"{begun:>9}",
            flush=True,
        )

    def ours(options: dict[str, Any]) -> None:
        label = "gapclose " + ", ".join(
            key if value is True else f"{key} {value}" for key, value in options.items()
        )
        draw = Draw(prompt=PROMPT, num_inference_steps=place.steps(name))
        for n in place.batches(name):
            made = generator(place, n, options)
            first = clocked(lambda made=made, n=n: made.generate(draw, range(n)))
            with timed_inside() as taken:
                seconds = clocked(lambda made=made, n=n: made.generate(draw, range(n, 2 * n)))
            row(name, label, n, n / seconds, first, 1 - sum(taken) / seconds)

    tried(place, f"{name:8}diffusers", baseline)
    if plain:
        with as_loaded(place, pipeline):
            for options in FAST[name]:
                tried(place, f"{name:8}gapclose {options}", lambda options=options: ours(options))
    torch._dynamo.reset()


def within(place: Place, name: str, options: dict[str, Any]) -> None:
    """Draw with so little memory that it would not fit as it is, and print what it took."""
    on_gpu = place.device != "cpu"
    pipeline = build(name, device=place.device, dtype=place.dtype, tiny=place.tiny)
    if on_gpu:
        pipeline.to("cpu")
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(CARD_GIB * 2**30 / whole)
        torch.cuda.reset_peak_memory_stats()
    draw = Draw(prompt=PROMPT, num_inference_steps=2 if place.tiny else 4)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if "quantize" in options:
                if importlib.util.find_spec("bitsandbytes") is not None:
                    pipeline.save_pretrained(folder)
                made = DiffusersGenerator(folder, device=place.device, size=place.size, **options)
                made.check()
                seconds = clocked(lambda: made.generate(draw, [1]))
            else:
                with as_loaded(place, pipeline):
                    made = generator(place, "auto", options)
                    made.generate(draw, [1])
                    seconds = clocked(lambda: made.generate(draw, [2, 3]))
        peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
        print(
            f"{name:8}{', '.join(f'{k} {v}' for k, v in options.items()):36}"
            f"{draw.num_inference_steps} steps in {seconds:.1f} s, at most {peak:.1f} GiB",
            flush=True,
        )
    finally:
        if on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--case-seconds", type=float, default=75.0)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    begun = time.monotonic()
    place = Place(
        device="cuda" if torch.cuda.is_available() else "cpu",
        tiny=arguments.tiny,
        ends=begun + 60 * arguments.minutes,
        case_seconds=arguments.case_seconds,
    )
    if place.device == "cpu" and not place.tiny:
        raise SystemExit("no GPU here; --tiny tries the code on a CPU")
    card = "CPU" if place.device == "cpu" else torch.cuda.get_device_name(0)
    print(f"{card}, torch {torch.__version__}, {place.size} px, {str(place.dtype)[6:]}")
    print(f"{'':8}{'':36}{'batch':>5}{'images/s':>10}{'ratio':>8}{'docs':>8}{'peak':>7}"
          f"{'outside':>9}{'first':>9}")  # fmt: skip
    compiler = "eager" if place.device == "cpu" else speed._COMPILER
    with patch.object(speed, "_COMPILER", compiler):
        for name in FAST:
            measure(place, name)
    print(f"\nwithin {CARD_GIB} GiB")
    for name, options in SMALL:
        tried(place, f"{name:8}{options}", lambda n=name, o=options: within(place, n, o))
    print(f"\n{time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
