# SPDX-License-Identifier: Apache-2.0
"""What task files would run is found wherever it stands, runs only with consent, and templates run nothing at all."""

import os
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")
pytest.importorskip("lm_eval")

from builders import make_cell  # noqa: E402

from bench.errors import UserError  # noqa: E402
from bench.scoring import task_files as files  # noqa: E402
from bench.scoring.task_code import Code, code_of, require_consent  # noqa: E402
from bench.scoring.task_files import task_files, unchanged  # noqa: E402
from bench.scoring.tasks import load_tasks, rendering  # noqa: E402
from bench.suite import Answering  # noqa: E402

HEAD = "task: t\noutput_type: multiple_choice\nmetric_list: [{metric: acc}]\n"


def written(folder: Path, **files: str) -> Path:
    """Files by name, `__` standing for a slash and the last `_` for a dot."""
    for name, content in files.items():
        path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))
    return folder


def found(path: Path, named: bool = True) -> list[Code]:
    """The code of one task file, which the caller named by its path or only by its folder."""
    _, files, _ = task_files([str(path)], "")
    return code_of(files, [str(path)] if named else [])


def test_a_function_beside_a_named_file_is_told_and_runs(tmp_path):
    """Who names the file has agreed to what lies in its folder; who names a folder has not looked at it."""
    folder = written(tmp_path, t_yaml=HEAD + "process_docs: !function code.turned\n", code_py="turned = list\n")
    (code,) = found(folder / "t.yaml")
    assert code == Code(name="code.py", where=str(folder / "code.py"), used=("turned",), beside=True)
    require_consent([code], [])
    (code,) = found(folder / "t.yaml", named=False)
    with pytest.raises(
        UserError, match=r"run code: code\.py \(.*code\.py: turned\); read it, .*--trust-task-code code\.py$"
    ):
        require_consent([code], [])
    require_consent([code], ["code.py"])


@pytest.mark.parametrize(
    "tagged",
    [
        "process_docs: !function code.f",
        "metadata: {deep: [1, {er: !function code.f}]}",
        "? !function code.f\n: 1",
        "metadata: !!set {? !function code.f}",
        "metadata: !!pairs [a: !function code.f]",
        "metadata: &shared [!function code.f]\nmore: *shared",
    ],
)
def test_a_function_is_found_wherever_the_tag_stands(tmp_path, tagged):
    """lm-eval imports the module while it reads the file, whatever the value is for."""
    folder = written(tmp_path, t_yaml=f"{HEAD}{tagged}\n", code_py="")
    assert [code.used for code in found(folder / "t.yaml")] == [("f",)]


def test_includes_from_other_folders_need_consent_by_name(tmp_path):
    """However many files lie between, and wherever the last one's Python file lies."""
    folder = written(
        tmp_path,
        mine__t_yaml="task: t\ninclude: ../theirs/part.yaml\n",
        theirs__part_yaml="include: deeper/rest.yaml\noutput_type: multiple_choice\n",
        theirs__deeper__rest_yaml="process_docs: !function hidden.f\nmetric_list: [{metric: acc}]\n",
        theirs__deeper__hidden_py="f = list\n",
    )
    (code,) = found(folder / "mine" / "t.yaml")
    assert (code.name, code.where, code.beside) == ("hidden.py", str(folder / "theirs/deeper/hidden.py"), False)
    with pytest.raises(UserError, match=r"hidden\.py"):
        require_consent([code], ["part.yaml"])


def test_a_link_out_of_the_folder_and_a_module_below_it_are_not_beside(tmp_path):
    """What counts is where the file lies."""
    folder = written(
        tmp_path, mine__t_yaml=HEAD + "a: !function code.f\nb: !function sub.more.g\n", other__code_py="",
        mine__sub__more_py="",
    )  # fmt: skip
    (folder / "mine" / "code.py").symlink_to(folder / "other" / "code.py")
    assert [(code.name, code.beside) for code in found(folder / "mine" / "t.yaml")] == [
        ("code.py", False), ("more.py", False),
    ]  # fmt: skip


def test_two_files_of_one_name_are_agreed_to_apart(tmp_path):
    """By their folders: who knows one has not read the other."""
    folder = written(
        tmp_path, mine__t_yaml=HEAD + "include: ../theirs/part.yaml\na: !function utils.f\n", mine__utils_py="",
        theirs__part_yaml="b: !function utils.g\n", theirs__utils_py="",
    )  # fmt: skip
    codes = found(folder / "mine" / "t.yaml")
    assert [(code.name, code.beside) for code in codes] == [("mine/utils.py", True), ("theirs/utils.py", False)]
    with pytest.raises(UserError, match=r"--trust-task-code utils\.py,theirs/utils\.py$"):
        require_consent(codes, ["utils.py"])
    require_consent(codes, ["theirs/utils.py"])


def test_installed_modules_and_fetched_metrics_are_code_too(tmp_path):
    """A function of any package may be named, and a metric that lm-eval has not is loaded from the Hub and run."""
    body = """\
        task: t
        output_type: generate_until
        doc_to_text: !function textwrap.dedent
        metric_list: [{metric: exact_match}, {metric: not_one_of_its}, {metric: acc, hf_evaluate: true}]
        """
    folder = written(tmp_path, t_yaml=body, own_yaml=body + "process_results: !function textwrap.indent\n")
    codes = found(folder / "t.yaml")
    assert [code.name for code in codes] == ["textwrap", "evaluate:not_one_of_its", "evaluate:acc"]
    assert not any(code.beside for code in codes)
    assert codes[0].where == "installed module textwrap"
    assert [code.name for code in found(folder / "own.yaml")] == ["textwrap"]  # its own scoring loads no metric


def test_lm_evals_own_functions_are_the_installed_package(tmp_path):
    """A task that includes one of lm-eval's runs what was installed with it."""
    from importlib.util import find_spec

    theirs = Path(find_spec("lm_eval").origin).parent / "tasks" / "hellaswag" / "hellaswag.yaml"
    assert "!function" in theirs.read_text()
    folder = written(tmp_path, t_yaml=f"include: {theirs}\ntask: t\n")
    assert found(folder / "t.yaml") == []


def test_a_file_that_many_include_is_read_once(tmp_path, monkeypatch):
    """In the order in which they are met: a task before what it includes, and what they share before the next task."""
    many = {f"t{number}_yaml": f"task: t{number}\ninclude: part.yaml\n" for number in range(3)}
    folder = written(
        tmp_path, part_yaml="include: rest.yaml\noutput_type: multiple_choice\n", rest_yaml="a: 1\n", **many
    )
    read, own = [], files._read
    monkeypatch.setattr(files, "_read", lambda path: (read.append(path.name), own(path))[1])
    found = files.parts({f"t{number}": str(folder / f"t{number}.yaml") for number in range(3)})
    assert [part.path.name for part in found] == ["t0.yaml", "part.yaml", "rest.yaml", "t1.yaml", "t2.yaml"]
    assert read == [part.path.name for part in found]
    assert [part.merged for part in found[3:]] == [
        {"a": 1, "output_type": "multiple_choice", "task": f"t{number}"} for number in (1, 2)
    ]


def test_a_file_that_includes_itself_is_one_line(tmp_path):
    """Through another one, too."""
    folder = written(tmp_path, t_yaml="task: t\ninclude: u.yaml\n", u_yaml="include: t.yaml\n")
    with pytest.raises(UserError, match=r"t\.yaml includes itself; mend the task file"):
        task_files([str(folder / "t.yaml")], "")


def test_files_that_changed_after_planning_are_not_run(tmp_path):
    """What was agreed to and what the record's hash names is what runs."""
    folder = written(tmp_path, t_yaml=HEAD + "process_docs: !function code.f\n", code_py="f = list\n")
    _, files, sha256 = task_files([str(folder / "t.yaml")], "")
    unchanged(files, sha256)
    cell = make_cell("quality", settings={"tasks": ["t"], "tasks_sha256": sha256})
    run = Answering(cell=cell, files={"task:t": files["t"]})
    assert run.task_files == files
    (folder / "code.py").write_text("f = tuple\n")
    with pytest.raises(UserError, match="the task files have changed since the run was planned"):
        _ = run.task_files


@pytest.mark.parametrize("template", ["{{q.__class__}}", "{{q.append('x')}}", "{{nowhere}}", "{% if %}"])
def test_templates_are_rendered_in_a_sandbox(tmp_path, template):
    """What reaches for the interpreter, changes a document or does not parse is one line that names the task."""
    import datasets

    before, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, tmp_path / "cache"
    body = f"""\
        task: own_template
        dataset_path: json
        dataset_kwargs: {{data_files: {{test: items.jsonl}}}}
        test_split: test
        output_type: generate_until
        doc_to_text: "{template}"
        doc_to_target: "yes"
        metric_list: [{{metric: exact_match}}]
        """
    folder = written(tmp_path, t_yaml=body, items_jsonl='{"q": ["a"]}\n')
    names, files, _ = task_files([str(folder / "t.yaml")], "")
    try:
        with pytest.raises(UserError, match="a template of task own_template cannot be rendered: "):
            load_tasks(names, files)
    finally:
        datasets.config.HF_DATASETS_CACHE = before


def test_other_errors_keep_their_own_words():
    """Only what a template does is a mistake of the task file."""
    with pytest.raises(ZeroDivisionError), rendering("t"):
        SimpleNamespace(value=1 / 0)
