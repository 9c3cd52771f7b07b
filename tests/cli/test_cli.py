"""The command line: exit codes, one line for each error, what goes to stdout, what is written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jsonschema
import numpy as np
import pytest
from audit_specimen import attacked, specimen
from audit_toy import TEXT, toy
from typer.testing import CliRunner

from meanfield.audits import document
from meanfield.audits.schema import schema
from meanfield.cli.described import architecture, heads_or_count
from meanfield.cli.main import app
from meanfield.cli.sources import SourceError, gather


GOLDEN = Path(__file__).parents[1] / "models" / "golden"
RUNNER = CliRunner()
QUICK = ["--metrics", "local,growth", "--format", "html,json,md,csv,card", "--max-tokens", "32"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and the toy model in place of a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("meanfield.models.load", lambda path, **more: toy())
    monkeypatch.setattr("meanfield.models.weight_bytes", lambda path, **more: 1000)
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path


def meanfield(*arguments, **more):
    return RUNNER.invoke(app, [str(a) for a in arguments], **more)


def audit(*arguments):
    with jax.enable_x64(False):
        return meanfield("audit", "toy", *QUICK, *arguments)


def test_help_and_version_need_neither_jax_nor_numpy():
    code = (
        "import sys\nfrom meanfield.cli.main import app\n"
        "try: app(['audit', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'jax', 'numpy', 'matplotlib', 'jinja2', 'meanfield.audits'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--fail-on" in done.stdout
    assert meanfield("--version").stdout.startswith("meanfield ")


@pytest.mark.slow
def test_python_can_run_the_package_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "meanfield", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("meanfield "), done.stderr


def test_help_answers_at_once():
    command = [sys.executable, "-c", "from meanfield.cli.main import main; main()", "--help"]
    times = []
    for _ in range(5):
        before = os.times().children_user
        subprocess.run(command, capture_output=True)
        times.append(os.times().children_user - before)
    assert min(times) < 0.3  # processor seconds: other programs do not count


@pytest.mark.slow
def test_an_audit_writes_its_files_and_the_table(here):
    result = audit("--text", "a.txt", "--no-color")
    assert result.exit_code == 0, result.output
    assert "Layer" in result.stdout and "growth" in result.stdout
    assert {p.name for p in (here / "meanfield-audit").iterdir()} == {
        *("index.html", "audit.json", "report.md", "heads.csv", "model-card.md")
    }
    made = json.loads((here / "meanfield-audit" / "audit.json").read_text())
    jsonschema.validate(made, schema())
    assert made["run"]["command"].startswith("meanfield")

    again = audit("--text", "a.txt")
    assert again.exit_code == 2 and "not empty" in again.stderr
    assert audit("--text", "a.txt", "--force", "-q").stdout == ""


@pytest.mark.slow
def test_thresholds_and_baselines_decide_the_exit_code(here):
    assert audit("--text", "a.txt", "--fail-on", "local.max>1e9").exit_code == 0
    failed = audit("--text", "a.txt", "--force", "--fail-on", "local.max>0.001")
    assert failed.exit_code == 1 and "FAIL" in failed.stdout
    baseline = ["--force", "--baseline", "meanfield-audit/audit.json"]
    assert audit("--text", "a.txt", *baseline, "--out", "new").exit_code == 0
    old = json.loads((here / "new" / "audit.json").read_text())
    for layer in old["layers"]:
        layer["local"]["value"] *= 0.5
    (here / "old.json").write_text(json.dumps(old))
    worse = audit("--text", "a.txt", "--baseline", "old.json", "--out", "newer")
    assert worse.exit_code == 1


@pytest.mark.slow
def test_json_can_go_to_stdout_and_nothing_is_written(here):
    with jax.enable_x64(False):
        result = meanfield(
            *("audit", "toy", "--metrics", "local", "--max-tokens", 32),
            *("--text", "-", "--format", "json", "--out", "-"),
            input=TEXT,
        )
    assert result.exit_code == 0
    jsonschema.validate(json.loads(result.stdout), schema())
    assert [p.name for p in here.iterdir()] == ["a.txt"]


@pytest.mark.slow
def test_attacks_and_certificates_are_asked_for_by_flags(here):
    asked = ["--attack", "--certify", "--fractions", "0.5,0.1", "--radii", "1e-3", "--layers", "0"]
    steps = ["--attack-steps", "12", "--domain", "ball", "--no-color"]
    thresholds = ["--fail-on", "peel@0.1>1e-9", "--fail-on", "gap>1e9"]
    result = audit("--text", "a.txt", *asked, *steps, *thresholds)
    assert result.exit_code == 1, result.output
    assert "peel 0.1" in result.stdout and "certified 0.001" in result.stdout
    assert "FAIL  peel@0.1>1e-9" in result.stdout and "pass  never gap>1e9" in result.stdout
    folder = here / "meanfield-audit"
    made = json.loads((folder / "audit.json").read_text())
    jsonschema.validate(made, schema())
    (row,) = made["rows"]
    assert [p["fraction"] for p in row["peeling"]["points"]] == [0.5, 0.1]
    assert row["peeling"]["domain"] == "ball" and len(row["radii"]) == 1
    assert len((folder / "attacks.csv").read_text().splitlines()) == 1 + 2 + 2


def test_audits_with_attacks_are_compared(here):
    for name, audit in (("a.json", attacked()), ("b.json", attacked(layers=3))):
        document.write(audit, here / name)
    document.write(specimen(), here / "plain.json")
    both = meanfield("compare", "a.json", "b.json", "--no-color")
    assert both.exit_code == 0 and "A peel" in both.stdout and "all" in both.stdout
    one = meanfield("compare", "a.json", "plain.json", "--no-color")
    assert one.exit_code == 0 and "A peel" not in one.stdout and "all" not in one.stdout


@pytest.mark.slow
def test_an_audit_out_of_time_is_incomplete_and_can_go_on(here):
    stopped = audit("--text", "a.txt", "--time-limit", "0s")
    assert stopped.exit_code == 4 and (here / "meanfield-audit" / "partial.jsonl").exists()
    other = audit("--text", "a.txt", "--resume", "--seed", 7)
    assert other.exit_code == 3 and "another audit" in other.stderr
    done = audit("--text", "a.txt", "--resume")
    assert done.exit_code == 0 and not (here / "meanfield-audit" / "partial.jsonl").exists()
    assert document.read("meanfield-audit/audit.json").complete


np_pickle = np.array([print], dtype=object)


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["audit", "toy", "--nonsense"], 2, "No such option"),
        (["audit", "toy", "--fail-on", "local.max"], 2, "a threshold looks like"),
        (["audit", "toy", "--regress", "much"], 2, "10%"),
        (["audit", "toy", "--format", "pdf"], 2, "--format takes"),
        (["audit", "toy", "--out", "-"], 2, "--format json"),
        (["audit", "toy", "--out", "a.txt"], 2, "is a file"),
        (["audit", "toy", "--layers", "x"], 2, "0,3-5"),
        (["audit", "toy", "--layers", "9", "--text", "a.txt"], 3, "among 0..1"),
        (["audit", "toy", "--heads", "x"], 2, "--heads looks like 0,3-5"),
        (["audit", "toy", "--heads", "7", "--text", "a.txt"], 3, "`heads` must be among 0..1"),
        (["audit", "toy", "--fractions", "0.1"], 2, "belongs to --attack"),
        (["audit", "toy", "--radii", "0.1", "--whole"], 2, "belongs to --attack and --certify"),
        (["audit", "toy", "--attack", "--fractions", "0.1,x"], 2, "looks like 0.1,0.01"),
        (["audit", "toy", "--attack", "--fractions", "2"], 2, "must lie in (0, 1]"),
        (["audit", "toy", "--certify", "--radii", "nan"], 2, "positive and finite"),
        (["audit", "toy", "--attack", "--domain", "cube"], 2, "layernorm or ball"),
        (["audit", "toy", "--text", "a.txt", "--whole"], 3, "needs the blocks"),
        (["audit", "toy", "--arch", "t5"], 3, "--arch) must be one of bert"),
        (["audit", "toy", "--head-count", "3"], 2, "--arch FAMILY"),
        (["inspect", "toy", "--set", "a=1"], 2, "--arch FAMILY"),
        (["audit", "toy", "--arch", "bert", "--set", "a"], 2, "rope_theta=500000"),
        (["inspect", "weights.safetensors"], 3, "look like bert or roberta"),
        (["inspect", "weights.safetensors", "--arch", "gpt2"], 3, "is no gpt2"),
        (["inspect", "weights.safetensors", "--arch", "bert"], 3, "--head-count N"),
        (["audit", "toy", "--metrics", "magic"], 2, "local, heads"),
        (["audit", "toy", "--dtype", "f16"], 2, "f32 or f64"),
        (["audit", "toy", "--overflow", "wrap"], 2, "truncate"),
        (["audit", "toy", "--memory-limit", "lots"], 2, "4GiB"),
        (["audit", "toy", "--time-limit", "soon"], 2, "10m"),
        (["audit", "toy", "--device", "tpu"], 2, "cpu or gpu"),
        (["audit", "toy", "--text", "b.txt"], 3, "no such file; the folder has a.txt"),
        (["audit", "toy", "--text", "."], 3, "is a folder"),
        (["audit", "toy", "--text", "empty.txt"], 3, "empty"),
        (["audit", "toy", "--text", "latin.txt"], 3, "not UTF-8"),
        (["audit", "toy", "--text", "long.txt", "--overflow", "error"], 3, "exceed the limit"),
        (["audit", "toy", "--text", "a.txt", "--memory-limit", "1k"], 3, "memory"),
        (["audit", "toy", "--tokens", "pickle.npy"], 3, "cannot be read as .npy"),
        (["audit", "toy", "--tokens", "ids.json"], 3, "list of token ids"),
        (["audit", "toy", "--tokens", "wrong.npy"], 3, "hidden states"),
        (["audit", "toy", "--text", "a.txt", "--baseline", "a.txt"], 3, "not JSON"),
        (["compare", "a.txt", "a.txt"], 3, "not JSON"),
        (["compare", "none.json", "a.txt"], 3, "cannot be read"),
        (["report", "a.txt"], 3, "not JSON"),
        (["report", "run.json", "-o", "x.pdf"], 2, "must end in"),
        (["report", "run.json", "-o", "none/x.html"], 2, "no folder"),
        (["report", "run.json", "-o", "a.txt"], 2, "must end in"),
        (["report", "run.json", "-o", "run.json"], 2, "--force"),
    ],
)
def test_every_error_is_one_line_with_its_exit_code(here, arguments, code, told):
    (here / "empty.txt").write_text(" \n")
    (here / "latin.txt").write_bytes(b"caf\xe9")
    (here / "long.txt").write_text(TEXT * 9)
    (here / "ids.json").write_text('{"ids": [1]}')
    shutil.copy(GOLDEN / "bert" / "model.safetensors", here / "weights.safetensors")
    np.save(here / "pickle.npy", np_pickle, allow_pickle=True)
    np.save(here / "wrong.npy", np.ones((2, 3, 5)))
    document.write(specimen(), here / "run.json")
    before = sorted(here.iterdir())
    result = meanfield(*arguments)
    assert result.exit_code == code, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.output and result.stdout == ""
    if "No such option" not in told:
        assert result.stderr.count("\n") == 1
    assert sorted(here.iterdir()) == before


def test_an_unknown_model_is_told_by_a_real_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from meanfield.cli.main import main; main()", "audit", "nowhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3 and done.stdout == ""
    assert (
        done.stderr.startswith("meanfield: nowhere: no such file")
        and "Traceback" not in done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_an_internal_error_is_70_and_verbose_shows_where(here, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("\x1b[31mboom")

    monkeypatch.setattr("meanfield.models.load", broken)
    result = meanfield("audit", "toy", "--text", "a.txt")
    assert result.exit_code == 70 and "\\x1b[31mboom" in result.stderr
    assert "Traceback" in meanfield("audit", "toy", "--text", "a.txt", "-v").stderr


def test_an_interrupt_before_the_first_row_is_4(here, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("meanfield.models.load", interrupted)
    assert meanfield("audit", "toy", "--text", "a.txt").exit_code == 4


def test_compare_shows_both_and_what_differs(here):
    document.write(specimen(), here / "a.json")
    document.write(specimen(status="partial", inputs=1), here / "b.json")
    result = meanfield("compare", "a.json", "b.json", "--no-color")
    assert result.exit_code == 0
    assert "7.25" in result.stdout and "0.97" in result.stdout  # 7.25 and 7.00, two inputs and one
    assert "the inputs differ" in result.stdout and "B is partial" in result.stdout


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json", "png"])
def test_report_writes_what_the_ending_says(here, ending):
    document.write(specimen(), here / "a.json")
    assert meanfield("report", "a.json", "-o", f"again.{ending}").exit_code == 0
    assert (here / f"again.{ending}").stat().st_size > 500


def test_schema_is_printed():
    assert json.loads(meanfield("schema").stdout) == schema()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A folder with nothing but weights in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOLDEN / "bert" / "model.safetensors", "weights.safetensors")
    return "weights.safetensors"


def test_inspect_reads_bare_weights_and_names_what_it_assumes(bare):
    result = meanfield("inspect", bare, "--arch", "bert", "--head-count", 4)
    assert result.exit_code == 0 and "assumed" not in result.stdout, result.output
    llama = shutil.copy(GOLDEN / "llama" / "model.safetensors", "llama.safetensors")
    result = meanfield("inspect", llama, "--arch", "llama", "--head-count", 4)
    assert "rope_theta: 10000.0" in result.stdout and "MiB at 128 tokens" in result.stdout


@pytest.mark.parametrize(
    "given, heads, count",
    [
        (("12", "bert", None), None, 12),  # with --arch, one number is how many there are
        (("12", "bert", 16), "12", 16),
        (("0,3-5", "bert", None), "0,3-5", None),
        (("12", None, None), "12", None),
        ((None, "bert", 4), None, 4),
    ],
)
def test_heads_says_which_or_with_arch_how_many(given, heads, count):
    assert heads_or_count(*given) == (heads, count)


def test_a_folder_of_images_is_every_npy_in_it(tmp_path):
    with pytest.raises(SourceError, match="without .npy files"):
        gather("vit", [], [], [tmp_path])
    for name in ("b", "a"):
        np.save(tmp_path / f"{name}.npy", np.zeros((1, 8, 8)))
    found = gather("vit", [], [], [tmp_path])
    assert [Path(name).name for name in found] == ["a.npy", "b.npy"]


def test_fields_are_json_or_words():
    told = architecture("llama", 4, ["rope_theta=5e5", "hidden_act=silu", "mlp_bias=false"])
    assert told.fields == {"rope_theta": 5e5, "hidden_act": "silu", "mlp_bias": False}
    assert told.heads == 4


@pytest.mark.slow
def test_bare_weights_are_audited_and_the_table_names_what_was_assumed(bare):
    np.save("ids.npy", np.arange(2, 14))
    arguments = ("--arch", "bert", "--heads", 4, "--tokens", "ids.npy", "--metrics", "local")
    with jax.enable_x64(False):
        result = meanfield("audit", bare, *arguments, "--format", "html,md,json")
    assert result.exit_code == 0, result.output
    assert "2 layers × 4 heads" in result.stdout and "assumed  layer_norm_eps" in result.stdout
    folder = Path("meanfield-audit")
    assert "layer_norm_eps 1e-12" in (folder / "index.html").read_text()
    made = json.loads((folder / "audit.json").read_text())
    jsonschema.validate(made, schema())
    assert made["model"]["assumed"] == {"layer_norm_eps": 1e-12, "hidden_act": "gelu"}


def test_weights_above_the_memory_limit_are_not_read(bare, monkeypatch):
    monkeypatch.setattr("meanfield.models.load", None)  # it would fail if it were called
    arguments = ("--arch", "bert", "--head-count", 4, "--memory-limit", "1k")
    result = meanfield("audit", bare, *arguments)
    assert result.exit_code == 3 and "the weights alone are" in result.stderr


def test_inspect_needs_no_jax():
    code = "import sys; from meanfield.cli.main import app\ntry: app(['inspect'])\n"
    code += "except SystemExit as end: assert not end.code\nassert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gpt2" in done.stdout and "108,352" in done.stdout


def test_a_narrow_terminal_shows_what_matters_most():
    from meanfield.cli.terminal import _fitting
    from meanfield.report.table import layer_table

    plain, _ = _fitting(*layer_table(specimen()), 100)
    header, rows = _fitting(*layer_table(attacked()), 100)
    assert "growth n^α" in plain and "upper" not in plain
    assert {"local", "peel 0.01", "certified 0.001", "flag"} < set(header)
    assert "growth n^α" not in header and {len(row) for row in rows} == {len(header)}
    assert (
        sum(len(max(cells, key=len)) + 3 for cells in zip(header[:-1], *rows, strict=False)) < 100
    )
