"""`meanfield audit`: from a model and a text to a table, a report, an exit code."""

import os
import shlex
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from .attacking import Domain, Fractions, Radii, Steps, attack_settings
from .described import Arch, Fields, HeadCount, architecture, heads_or_count
from .exits import Exit, UsageError, guarded, stop_on_terminate


Many = list[str] | None
_FIGURES = "matplotlib.backends.backend_agg"
# The sample text is longer than a window of the shipped model: several windows show the spread.
_SAMPLE_WINDOWS = 4


@guarded
def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder with config.json and *.safetensors, a safetensors file with --arch, a "
            "llama2.c .bin file, or a shipped model: shakespeare-gpt, digits-vit."
        ),
    ] = "shakespeare-gpt",
    arch: Arch = None,
    head_count: HeadCount = None,
    fields: Fields = None,
    text: Annotated[
        Many, typer.Option(metavar="FILE", help="A UTF-8 text file, or - for stdin. Repeatable.")
    ] = None,
    tokens: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Token ids (.json, .npy) or hidden states (layers, n, d) as .npy."
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Images (c, h, w) or (b, c, h, w): a .npy file or a folder of them.",
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="LIST", help="Which layers: 0,3-5. All by default.")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Which heads: 0,3-5. All by default. With --arch, one number N says how many "
            "there are, as --head-count N does.",
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Which of local, heads, entropy, bounds, growth; attack, certify and whole too."
        ),
    ] = "local,heads,entropy,bounds,growth",
    attack: Annotated[
        bool,
        typer.Option(
            "--attack",
            help="Search attacks: peel mass off the worst token, move tokens within a radius.",
        ),
    ] = False,
    certify: Annotated[
        bool, typer.Option("--certify", help="Prove a constant for each radius around the input.")
    ] = False,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="All blocks of the model as one map, beside the layers."),
    ] = False,
    fractions: Fractions = None,
    radii: Radii = None,
    domain: Domain = None,
    attack_steps: Steps = None,
    max_tokens: Annotated[int, typer.Option(help="Longest window of text.")] = 256,
    overflow: Annotated[
        str | None,
        typer.Option(help="What becomes of a longer text: truncate, window, or error."),
    ] = None,
    windows: Annotated[int | None, typer.Option(help="Most windows of one text.")] = None,
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Merge equal tokens of a layer into masses.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="f32 or f64.")] = "f32",
    device: Annotated[str | None, typer.Option(help="cpu or gpu; JAX chooses by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random starts.")] = 0,
    memory_limit: Annotated[str | None, typer.Option(help="Such as 4GiB.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Such as 10m; then --resume.")] = None,
    out: Annotated[
        str, typer.Option(help="Folder of the report; - with --format json for stdout.")
    ] = "meanfield-audit",
    format: Annotated[
        str, typer.Option(help="Which of html, md, json, csv, png, card.")
    ] = "html,md,json,csv,png",
    fail_on: Annotated[
        Many,
        typer.Option(
            metavar="EXPRESSION", help="Exit 1 if this holds, e.g. 'local.max>50'. Repeatable."
        ),
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="audit.json of an earlier run.")] = None,
    regress: Annotated[str, typer.Option(help="Growth allowed over the baseline.")] = "10%",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Measure how sensitive every attention layer and head of a model is to its tokens.

    With no argument it audits the small character GPT that ships with meanfield.
    """
    _choose(device)
    from . import outputs
    from .terminal import progress, show

    formats, to_stdout = outputs.parse_formats(format), out == "-"
    _check(formats, to_stdout=to_stdout, resume=resume)
    given = bool(text or tokens or images)
    attacked = attack or "attack" in metrics
    certified = certify or "certify" in metrics
    heads, head_count = heads_or_count(heads, arch, head_count)
    told = architecture(arch, head_count, fields)
    settings = _settings(
        metrics=",".join([metrics, *_asked(attack=attack, certify=certify, whole=whole)]),
        **attack_settings(fractions, radii, domain, attack_steps, attacked, certified),
        max_tokens=max_tokens,
        overflow=overflow or ("truncate" if given else "window"),
        windows=windows or (None if given else _SAMPLE_WINDOWS),
        dedup=dedup,
        dtype=dtype,
        layers=layers,
        heads=heads,
        memory_limit=memory_limit,
        time_limit=time_limit,
    )
    verdicts = _verdicts(fail_on or [], baseline, regress)
    folder = None if to_stdout else Path(out)
    if folder is not None:
        outputs.check_folder(folder, force=force, resume=resume)
        if resume and (done := outputs.finished(folder)) is not None:
            print(f"the audit in {folder} is complete: nothing to do (--force makes it anew).")
            raise typer.Exit(_code(verdicts(done)))
    inputs = _gather(model, text, tokens, images)
    stop_on_terminate()
    with progress(wanted=not (no_progress or quiet)) as report:
        again = {"folder": folder, "resume": resume, "force": force}
        result = _run(model, told, inputs, settings, seed=seed, report=report, **again)
    result = verdicts(result)
    if folder is None:
        sys.stdout.write(outputs.to_json(result))
    else:
        written = outputs.write_all(result, folder, formats)
        outputs.finish(result, folder)
        if not quiet:
            show(result, color=not no_color, written=written)
    if not result.complete:
        print(_how_to_go_on(folder), file=sys.stderr)
    raise typer.Exit(_code(result))


def _asked(**flags: bool) -> list[str]:
    return [name for name, wanted in flags.items() if wanted]


def _how_to_go_on(folder: Path | None) -> str:
    if folder is None:
        return "meanfield: the audit is incomplete; with --out FOLDER its rows could be kept."
    return (
        f"meanfield: the audit is incomplete; the same command with --resume goes on in {folder}."
    )


def _code(result) -> Exit:
    if not result.complete:
        return Exit.INCOMPLETE
    return Exit.OK if result.passed else Exit.VIOLATED


def _check(formats: tuple[str, ...], *, to_stdout: bool, resume: bool) -> None:
    if to_stdout and formats != ("json",):
        raise UsageError("--out - writes JSON to stdout; add --format json.")
    if to_stdout and resume:
        raise UsageError("--resume needs the folder of the interrupted run; give --out FOLDER.")


def _settings(
    *, metrics: str, layers: str | None, heads: str | None, memory_limit, time_limit, **fields
):
    from meanfield.audits import AuditSettings
    from meanfield.audits.limits import LimitError, parse_memory, parse_time

    from .sources import parse_numbers

    try:
        return AuditSettings(
            metrics=tuple(dict.fromkeys(part.strip() for part in metrics.split(","))),
            layers=parse_numbers("--layers", layers),
            heads=parse_numbers("--heads", heads),
            memory_limit=None if memory_limit is None else parse_memory(memory_limit),
            time_limit=None if time_limit is None else parse_time(time_limit),
            **fields,
        )
    except (ValueError, LimitError) as error:
        raise UsageError(str(error)) from None


def _verdicts(fail_on: list[str], baseline: Path | None, regress: str):
    """A function that judges the audit; everything it needs is read before anything is computed."""
    from meanfield.audits import judge, read
    from meanfield.audits.thresholds import fraction, parse

    for expression in fail_on:
        parse(expression)
    allowed = fraction(regress)
    earlier = None if baseline is None else read(baseline)
    return lambda audit: judge(audit, fail_on, baseline=earlier, regress=allowed)


def _gather(model: str, text, tokens, images) -> dict[str, Any]:
    from .sources import gather

    return gather(model, text or [], tokens or [], images or [])


def _choose(device: str | None) -> None:
    """The device of JAX, and one BLAS thread: the matrices of heads are too small for more."""
    if device not in (None, "cpu", "gpu"):
        raise UsageError(f"--device is cpu or gpu; got {device!r}.")
    if device is not None:
        os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[device]
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is first imported


def _run(model: str, told, inputs, settings, *, seed, folder: Path | None, resume, force, report):
    from meanfield.audits.identity import from_files
    from meanfield.audits.limits import check_weights
    from meanfield.models import weight_bytes

    from .outputs import journal_of

    if settings.memory_limit is not None:
        check_weights(weight_bytes(model, architecture=told), settings.memory_limit)
    loaded = from_files(model, architecture=told)  # nothing is written for what cannot be read
    if folder is not None:
        # matplotlib takes half a second to load: it does so while XLA compiles
        threading.Thread(target=import_module, args=[_FIGURES], daemon=True).start()
    import jax

    import meanfield as mf

    return mf.audit(
        loaded,
        inputs,
        key=jax.random.key(seed),
        settings=settings,
        progress=report,
        journal=journal_of(folder, force=force and not resume),
        resume=resume,
        command=shlex.join(["meanfield", *sys.argv[1:]]),
    )
