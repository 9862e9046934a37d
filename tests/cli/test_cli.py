"""The program as people and programs call it."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flywheel import made
from tests.support_tickets import tickets

from kickwheel.cli import VERBS
from kickwheel.core.store import open_store
from kickwheel.trace.store import Traces


def kickwheel(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kickwheel.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_help_names_every_verb() -> None:
    ended = kickwheel("--help")
    assert ended.returncode == 0
    for verb, about in VERBS.items():
        assert f"  {verb} " in ended.stdout
        assert about.split()[0] in ended.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    ended = kickwheel(verb, "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"Usage: kickwheel {verb}")


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"schema", "chat", "serve", "mcp"}))
def test_every_verb_that_ends_with_a_result_gives_it_as_json(verb: str) -> None:
    assert "--json" in kickwheel(verb, "--help").stdout


def test_a_mistyped_verb_is_told_with_the_nearest() -> None:
    ended = kickwheel("promte")
    assert ended.returncode == 2
    assert 'Did you mean "promote"?' in ended.stderr


def test_mistakes_of_a_file_are_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text("models: {m: {kind: lokal}}\n")
    ended = kickwheel("check", str(tmp_path))
    assert ended.returncode == 1
    assert f'{tmp_path}/app.yml:1:14: models.m.kind: no kind "lokal"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_workflow_of_nat_is_no_app_and_how_it_becomes_one_is_told(tmp_path: Path) -> None:
    workflow = tmp_path / "my shop.yml"
    workflow.write_text(
        "memory: {m: {_type: mem0}}\nllms: {a: {_type: openai, model_name: gpt-5-mini}}\n"
        "workflow: {_type: tool_calling_agent, llm_name: a, memory: m}\n"
    )
    told = kickwheel("check", str(workflow)).stderr
    assert f"{workflow}:2:1: llms: this is a workflow of NeMo Agent Toolkit" in told
    *_, verb, file, _ = shlex.split(told.replace("`", " ` ").partition("makes one")[0])
    assert (verb, file) == ("import-nat", str(workflow))
    ended = kickwheel(verb, file, "--out", "shop", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert kickwheel("check", "shop", cwd=tmp_path).returncode == 0


def test_what_an_app_names_and_is_not_there_is_told_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.yml").write_text(
        "tools:\n"
        "  a: {kind: files, root: export}\n"
        "  b: {kind: openapi, document: shop.yml}\n"
        "  c: {kind: sql, url: 'sqlite:///orders.db'}\n"
        "  d: {kind: python, functions: ['desk:find', 'json:lodas']}\n"
        "  e: {kind: shell, folders: {old: ./bin}}\n"
    )
    told = kickwheel("check", cwd=tmp_path).stderr.removeprefix("error: ").splitlines()
    told = [line.removeprefix(f"{tmp_path}/").removeprefix("app.yml:") for line in told]
    assert told == [
        f"2:20: tools.a.root: there is no folder {tmp_path / 'export'}",
        f"3:22: tools.b.document: there is no file {tmp_path / 'shop.yml'}",
        f"4:18: tools.c.url: there is no SQLite file {tmp_path / 'orders.db'}",
        f'5:21: tools.d.functions: "desk:find" cannot be imported: there is no desk.py in '
        f"{tmp_path}, and no package of that name is installed",
        '5:21: tools.d.functions: "json:lodas": json has no "lodas". Did you mean "loads"?',
        f"6:20: tools.e.folders: there is no folder {tmp_path / 'bin'}",
    ]
    for folder in ("export", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "app.yml").write_text(
        "tools: {a: {kind: files, root: export}, e: {kind: shell, folders: {old: ./bin}}}\n"
    )
    assert kickwheel("check", cwd=tmp_path).returncode == 0


def test_check_tells_functions_that_no_model_could_call(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\n\ndef f(): ...\n\nsys.exit(3)\n")
    (tmp_path / "loose.py").write_text("def g(x, *rest): ...\n")
    (tmp_path / "app.yml").write_text(
        "tools: {a: {kind: python, functions: ['script:f', 'loose:g']}}\n"
    )
    ended = kickwheel("check", cwd=tmp_path)
    assert ended.returncode == 1
    assert '"script:f" cannot be imported: script ends the program.' in ended.stderr
    assert "the function g cannot be a tool: *rest has no schema" in ended.stderr


def test_an_app_in_this_folder_needs_no_name(tmp_path: Path) -> None:
    ended = kickwheel("check", cwd=made.app(tmp_path))
    assert ended.returncode == 0
    assert "specialist" in ended.stdout


def test_a_run_that_waits_is_answered_by_the_line_that_was_shown(tmp_path: Path) -> None:
    app = tmp_path / "my app"
    app.mkdir()
    (app / "app.yml").write_text("agents: {doctor: {kind: human}}\n")
    asked = kickwheel("run", "my app", "May I swim?", cwd=tmp_path).stdout
    line = next(line for line in asked.splitlines() if "kickwheel answer" in line)
    words = shlex.split(line.partition("kickwheel ")[2])
    assert words[:2] == ["answer", "my app"]
    assert "Yes." in kickwheel(*words[:-1], "Yes.", cwd=tmp_path).stdout
    here = kickwheel("run", "And dive?", cwd=app).stdout
    assert "kickwheel answer " in here
    assert "my app" not in here


def test_what_stands_in_the_stores_place_and_who_is_to_be_named_is_told(tmp_path: Path) -> None:
    made.app(tmp_path)
    (tmp_path / ".kickwheel").write_text("a note")
    told = kickwheel("runs", cwd=tmp_path).stderr
    assert f"{tmp_path / '.kickwheel'} is no folder. Move away what is there." in told
    (tmp_path / "app.yml").write_text("agents: {a: {kind: human}, b: {kind: human}}\n")
    assert "name one of a, b (--as)" in kickwheel("run", "hi", cwd=tmp_path).stderr
    (tmp_path / "app.yml").write_text("serve: {port: 0}\n")
    assert "Add one, for example" in kickwheel("run", "hi", cwd=tmp_path).stderr


def test_a_run_is_asked_for_where_none_is_and_a_port_is_one(tmp_path: Path) -> None:
    made.app(tmp_path)
    assert kickwheel("runs", cwd=tmp_path).stdout.startswith("no runs yet")
    ended = kickwheel("serve", "--port", "99999", cwd=tmp_path)
    assert ended.returncode == 2
    assert "99999 is not in the range" in ended.stderr


def test_a_step_that_has_nothing_to_work_on_names_the_one_before(tmp_path: Path) -> None:
    made.app(tmp_path)
    for verb, before in (("tune", "curate"), ("evaluate", "tune"), ("snapshot", "evaluate")):
        assert f"`kickwheel {before}` makes one" in kickwheel(verb, cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("resume", "zz"), 'no run "zz" in this store: `kickwheel runs` lists them'),
        (("cancel", "zz"), 'no run "zz" in this store: `kickwheel runs` lists them'),
        (("answer", "zz", "yes"), 'no run "zz" in this store: `kickwheel runs` lists them'),
        (("why", "zz"), 'no trace "zz" in this store: `kickwheel traces` lists them'),
        (("feedback", "zz", "bad"), 'no trace "zz" in this store: `kickwheel traces` lists them'),
        (("tune", "--dataset", "zz"), 'no dataset "zz": those that there are have their folders'),
    ],
)
def test_an_id_that_names_nothing_is_told_with_where_those_are_that_do(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    made.app(tmp_path)
    assert told in kickwheel(*words, cwd=tmp_path).stderr


def test_traffic_comes_in_and_is_said_of_and_asked_for_by_json(tmp_path: Path) -> None:
    made.app(tmp_path)
    line = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
    (tmp_path / "chats.jsonl").write_text(json.dumps(line) + "\n")
    landed = json.loads(kickwheel("import", "chats.jsonl", "--json", cwd=tmp_path).stdout)
    assert (landed["new"], landed["known"]) == (1, 0)
    again = json.loads(kickwheel("import", "chats.jsonl", "--json", cwd=tmp_path).stdout)
    assert (again["new"], again["known"]) == (0, 1)

    with open_store(tmp_path / ".kickwheel") as store:
        (trace,) = Traces(store).all()
    said = kickwheel("feedback", trace.id[:8], "bad", "--answer", "hello", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    way = json.loads(kickwheel("why", trace.id[:8], "--json", cwd=tmp_path).stdout)
    assert way["trace"]["feedback"][0]["answer"]["content"] == "hello"


def test_a_dataset_without_test_questions_is_said_to_have_none(tmp_path: Path) -> None:
    made.app(tmp_path)
    lines = [
        {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "yes"}]}
        for said in ("Where is my parcel now?", "Cancel the order please")
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kickwheel("import", "chats.jsonl", cwd=tmp_path)
    ended = kickwheel("curate", cwd=tmp_path)
    assert "no test questions, so nothing can be compared on it" in ended.stdout
    folder = Path(ended.stdout.split()[-1])
    assert "There are no test questions" in (folder / "dataset.md").read_text()


VERBS_HERE = [
    *("check", "chat", "serve", "mcp", "runs", "curate", "tune", "evaluate", "snapshot", "turn"),
    *("promote", "rollback", "run", "show", "import", "export", "feedback", "why", "answer"),
    *("resume", "cancel", "memory", "traces", "forget"),
]
OWN_WORDS = {
    "run": ["hi"],
    "show": ["hi"],
    "import": ["chats.jsonl"],
    "export": ["spans.jsonl"],
    "feedback": ["abc", "good"],
    "why": ["abc"],
    "answer": ["abc", "yes"],
    "resume": ["abc"],
    "cancel": ["abc"],
    "memory": ["list"],
    "forget": ["--days", "30"],
}


@pytest.mark.parametrize("verb", VERBS_HERE)
def test_where_no_app_is_here_every_verb_says_how_to_name_one(verb: str, tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").touch()
    words = OWN_WORDS.get(verb, [])
    ended = kickwheel(verb, *words, cwd=tmp_path)
    assert ended.returncode == 2
    told = "no app.yml in this folder. Name the app, its file or folder: kickwheel "
    assert f"{told}{verb} APP" in " ".join(ended.stderr.split())
    ended = kickwheel(verb, "nowhere", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert 'there is no file or folder "nowhere"' in " ".join(ended.stderr.split())


@pytest.mark.parametrize("verb", VERBS_HERE)
def test_the_help_of_every_verb_that_takes_an_app_says_what_that_is(verb: str) -> None:
    told = " ".join(kickwheel(verb, "--help").stdout.split())
    assert f"Usage: kickwheel {verb} [OPTIONS] [APP]" in told
    assert "APP is the app file, or the folder of an app.yml; left out, it is this folder." in told


def test_a_question_of_loose_words_is_to_be_quoted_and_an_empty_one_refused(
    tmp_path: Path,
) -> None:
    app = str(made.app(tmp_path))
    ended = kickwheel("run", app, "where", "is", "my", "parcel?")
    assert ended.returncode == 2
    assert f'is quoted: kickwheel run {app} "where is my …"' in " ".join(ended.stderr.split())
    told = kickwheel("run", "where", "is", "it?", cwd=tmp_path).stderr
    assert "What has spaces is quoted." in " ".join(told.split())
    ended = kickwheel("run", app, "  ")
    assert ended.returncode == 1
    assert "the question is empty" in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("answer abc", "RUN and TEXT must be given, in this order."),
        ("feedback abc", "TRACE and {good|bad} must be given, in this order."),
        ("run", "QUESTION must be given."),
        ("pull", "MODEL must be given."),
    ],
)
def test_of_too_few_words_all_that_it_takes_are_told(words: str, told: str, tmp_path: Path) -> None:
    ended = kickwheel(*words.split(), cwd=made.app(tmp_path))
    assert ended.returncode == 2
    assert told in " ".join(ended.stderr.split())


def test_an_export_of_nothing_leaves_the_file_that_is_there(tmp_path: Path) -> None:
    made.app(tmp_path)
    (tmp_path / "spans.jsonl").write_text("earlier")
    ended = kickwheel("export", "spans.jsonl", "--workload", "nobody", cwd=tmp_path)
    assert ended.returncode == 1
    assert 'no traces of "nobody"' in ended.stderr
    told = kickwheel("traces", "--workload", "nobody", cwd=tmp_path).stdout
    assert "without --workload and --tenant it lists all" in told
    assert (tmp_path / "spans.jsonl").read_text() == "earlier"


CHAT = {
    "messages": [
        {"role": "user", "content": "music in Rome, please"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "find", "arguments": '{"city": "Roma"}'},
                }
            ],
        },
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "find",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
        }
    ],
}


def test_the_right_call_must_be_one_that_the_traces_tools_allow_and_why_shows_it(
    tmp_path: Path,
) -> None:
    made.app(tmp_path)
    (tmp_path / "chats.jsonl").write_text(json.dumps(CHAT) + "\n")
    kickwheel("import", "chats.jsonl", cwd=tmp_path)
    with open_store(tmp_path / ".kickwheel") as store:
        (trace,) = Traces(store).all()

    def said(call: str) -> str:
        ended = kickwheel("feedback", trace.id, "bad", "--call", call, cwd=tmp_path)
        assert "Traceback" not in ended.stderr
        return ended.stderr

    assert "this is no JSON" in said("{")
    assert '"name" is missing' in said('{"find": {"city": "Rome"}}')
    assert '"arguments" is missing or no object' in said('{"name": "find"}')
    assert "what is city?" in said('{"name": "find", "arguments": {}, "city": "Rome"}')
    assert 'no tool "fund". Did you mean "find"?' in said('{"name": "fund", "arguments": {}}')
    assert "cannot be made" in said('{"name": "find", "arguments": {"town": "Rome"}}')
    assert said('{"name": "find", "arguments": {"city": "Rome"}}') == ""
    way = kickwheel("why", trace.id, cwd=tmp_path).stdout.splitlines()
    assert [line.split(maxsplit=1) for line in way[1:]] == [
        ["user", "music in Rome, please"],
        ["assistant", 'find{"city": "Roma"}'],
        ["feedback", "bad"],
        ["right", 'find{"city": "Rome"}'],
    ]


def test_broken_lines_of_declared_traffic_are_counted_wherever_it_comes_in(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    (app / "app.yml").write_text(made.APP.rstrip()[:-1] + ", traffic: [chats.jsonl]}")
    lines = [json.dumps(line) for line in tickets(40)]
    (app / "chats.jsonl").write_text("\n".join([*lines, '{"messages": []}']) + "\n")
    ended = kickwheel("curate", str(app))
    assert ended.returncode == 0, ended.stderr
    told = next(line for line in ended.stderr.splitlines() if line.startswith("import"))
    assert "40 new traces from chats.jsonl; 1 of 41 lines are broken, kept in " in told
    aside = Path(told.rpartition(" ")[2])
    assert json.loads(aside.read_text())["line"] == 41


def test_two_turns_at_once_on_one_store_are_refused(tmp_path: Path) -> None:
    from kickwheel.core.files import only_one

    made.app(tmp_path)
    with only_one(tmp_path / ".kickwheel" / "turn.lock", "a turn"):
        ended = kickwheel("turn", str(tmp_path))
    assert ended.returncode == 1
    assert "is already running here" in ended.stderr


def test_traces_are_listed_and_exported_of_all_tenants_or_of_one(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    kept = [
        replace(made.trace(number), tenant=tenant)
        for number, tenant in enumerate(("clinic", "bank", "clinic", ""), 1)
    ]
    with open_store(tmp_path / ".kickwheel") as store:
        Traces(store).add(kept)
    newest_first = [trace.id for trace in reversed(kept)]
    listed = json.loads(kickwheel("traces", str(app), "--json").stdout)
    assert [line["id"] for line in listed] == newest_first
    shown = kickwheel("traces", str(app), "--tenant", "clinic").stdout
    assert (shown.count("clinic"), shown.count("where is my parcel?")) == (2, 2)
    file = str(tmp_path / "theirs.jsonl")
    assert kickwheel("export", str(app), file, "--tenant", "clinic").stdout.startswith("2 traces")
    theirs = Path(file).read_text()
    assert [trace.id in theirs for trace in kept] == [True, False, True, False]
    assert kickwheel("traces", str(app), "--tenant", "nobody").stdout.startswith("no such traces")
    recorded = tmp_path / "recorded"
    with open_store(recorded / ".kickwheel") as store:
        failed = replace(kept[0].spans[0], error="ModelError: away")
        Traces(store).add([replace(kept[0], spans=(failed, *kept[0].spans[1:]))])
    without_app = kickwheel("traces", cwd=recorded).stdout
    assert "where is my parcel? ✗ ModelError: away" in without_app
    other = tmp_path / "other"
    other.mkdir()
    (other / "app.yml").write_text("models: {m: {kind: openai, model: x}}\n")
    assert kickwheel("import", str(other), file).returncode == 0
    there = json.loads(kickwheel("traces", str(other), "--tenant", "clinic", "--json").stdout)
    assert sorted(line["id"] for line in there) == sorted([kept[0].id, kept[2].id])


def test_what_a_run_asks_is_answered_in_the_chat_itself(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(
        "agents: {boss: {kind: human, question: 'Pay {question}?', choices: [approve, reject]}}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "kickwheel.cli", "chat", str(tmp_path)],
        input="4 EUR\nmaybe\nreject\n5 EUR\n\n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert 'answered by one of approve, reject, not "maybe"' in ended.stderr
    assert ended.stdout.count("? Pay 4 EUR? (approve / reject)") == 1
    states = [run["state"] for run in json.loads(kickwheel("runs", str(tmp_path), "--json").stdout)]
    assert states == ["waiting", "done"]
