"""NeMo Agent Toolkit's files, ours as the documentation writes them and NAT's own, as apps."""

import contextlib
import re
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from kickwheel import check_app, import_nat, open_app
from kickwheel.agents.nat.written import Left
from kickwheel.cli import group
from kickwheel.core.errors import ConfigError, UsageError
from kickwheel.core.files import home
from kickwheel.flywheel.start import FromNat
from kickwheel.models.wheel import Packaged, fetch

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.name for path in GOLDEN.glob("*.yml"))


def made(name: str, out: Path) -> tuple[FromNat, dict[str, Any]]:
    result = import_nat(GOLDEN / name, out)
    return result, YAML(typ="safe").load(result.app)


def mappings(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings in a file of NAT, each with the way to it."""
    if isinstance(node, dict):
        yield where, node
        for key, value in node.items():
            yield from mappings(value, f"{where}.{key}" if where else str(key))


def told(left: tuple[Left, ...]) -> dict[str, str]:
    return {one.where: one.what for one in left}


@pytest.mark.parametrize("name", FILES)
def test_every_file_becomes_an_app_that_checks_and_every_line_told_is_the_keys_own(
    name: str, tmp_path: Path
) -> None:
    result, _ = made(name, tmp_path / "app")
    assert check_app(tmp_path / "app").file == (tmp_path / "app" / "app.yml").resolve()
    for one in (*result.todo, *result.moot):
        line = Path(one.file).read_text().splitlines()[one.line - 1]
        key = re.sub(r"\[\d+\]$", "", one.where).rpartition(".")[2]
        assert key in line or "[" in one.where or "<<" in line, one


@pytest.mark.parametrize("name", FILES)
def test_a_key_that_nobody_knows_is_told_wherever_it_stands(name: str, tmp_path: Path) -> None:
    plain = YAML(typ="safe").load(GOLDEN / name)
    plain.pop("base", None)
    for number, (where, node) in enumerate(list(mappings(plain))):
        node["zzz"] = "unheard"
        file = tmp_path / f"{number}.yml"
        YAML(typ="safe").dump(plain, file)
        del node["zzz"]
        result = import_nat(file, tmp_path / f"app{number}")
        left = told((*result.todo, *result.moot))
        path = f"{where}.zzz" if where else "zzz"
        above = [path.rsplit(".", up)[0] for up in range(1, path.count(".") + 1)]
        there = "zzz" in result.app.read_text()  # as variables and headers are
        assert there or path in left or any(one in left for one in above), path


def test_an_agent_has_what_the_file_gives_it(tmp_path: Path) -> None:
    result, app = made("react.yml", tmp_path / "app")
    assert app["models"]["nim_llm"] == {
        "kind": "openai",
        "model": "meta/llama-3.1-70b-instruct",
        "base_url": "https://integrate.api.nvidia.com/v1",
        "api_key": "${NVIDIA_API_KEY}",
    }
    assert app["agents"]["workflow"] == {
        "kind": "react",
        "model": "nim_llm",
        "tools": ["current_datetime"],
        "max_steps": 5,
        "max_tokens": 1024,
        "instructions": "Answer in one sentence.",
    }
    left = told(result.todo)
    assert "kind: http" in left["functions.page_search"]
    assert left["workflow.tool_names[0]"].startswith('"page_search" is left out here')
    assert "kickwheel import" in left["eval.general.dataset"]


async def test_the_tools_of_a_made_app_answer(tmp_path: Path) -> None:
    made("react.yml", tmp_path / "app")
    async with open_app(tmp_path / "app") as app:
        (clock,) = app.tools("current_datetime")
        assert clock.spec.name == "current_datetime"
        answer = await clock.call({})
    assert re.match(r"20\d\d-\d\d-\d\dT", str(answer))


def test_control_flows_become_graphs_and_routers(tmp_path: Path) -> None:
    _, app = made("router.yml", tmp_path / "one")
    assert app["agents"]["workflow"]["agents"] == ["pipeline", "advisor"]
    assert app["agents"]["pipeline"]["nodes"]["city"] == {"agent": "city", "task": "{fruit}"}
    assert "casing" not in app["agents"]
    _, app = made("parallel.yml", tmp_path / "two")
    assert app["agents"]["both"]["edges"] == [{"to": ["topic", "urgency"]}]
    assert app["agents"]["workflow"]["edges"] == [{"to": "both"}, {"from": "both", "to": "report"}]


def test_servers_and_agents_elsewhere_are_reached(tmp_path: Path) -> None:
    result, app = made("mcp.yml", tmp_path / "app")
    assert app["tools"]["mcp_time"]["command"][:3] == ["python", "-m", "mcp_server_time"]
    assert app["tools"]["mcp_time"]["env"] == {"TOKEN": "${TIME_TOKEN}"}
    assert app["tools"]["mcp_time.get_current_time"]["only"] == ["get_current_time"]
    assert app["tools"]["mcp_jira"]["as_caller"] is True
    assert app["agents"]["other_agent"]["kind"] == "a2a"
    assert app["agents"]["workflow"]["agents"] == ["other_agent"]
    assert app["serve"] == {"host": "0.0.0.0", "port": 8080}
    assert "no SSE any more" in told(result.todo)["function_groups.mcp_math.server.transport"]


def test_a_key_that_stands_in_the_file_is_not_copied(tmp_path: Path) -> None:
    for name, secret in (("models.yml", "sk-proj"), ("rewoo.yml", "tvly-")):
        result, _ = made(name, tmp_path / name)
        said = " ".join(str(one) for one in (*result.todo, *result.moot))
        assert secret not in result.app.read_text() + said
    assert YAML(typ="safe").load(tmp_path / "models.yml" / "app.yml")["models"]["keyed"][
        "api_key"
    ] == "${KEYED_API_KEY}"  # fmt: skip


def test_a_file_is_read_over_the_one_that_it_builds_on(tmp_path: Path) -> None:
    result, app = made("based.yml", tmp_path / "app")
    assert app["models"]["nim_llm"]["model"] == "meta/llama-3.3-70b-instruct"
    assert app["agents"]["workflow"]["max_steps"] == 10
    files = {Path(one.file).name for one in (*result.todo, *result.moot)}
    assert files == {"based.yml", "react.yml"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- a list", "must be a mapping"),
        ("llms: [", "not YAML"),
        ("base: x.yml\n", "a circle"),
        ("base: nothing.yml\n", "cannot be read"),
    ],
)
def test_a_file_that_is_no_workflow_is_told(text: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=what):
        import_nat(file, tmp_path / "app")
    assert not (tmp_path / "app" / "app.yml").exists()


def test_a_file_that_is_no_workflow_makes_no_app(tmp_path: Path) -> None:
    file = tmp_path / "app.yml"
    file.write_text("models: {m: {kind: openai, model: x}}\n")
    with pytest.raises(ConfigError, match=r"app\.yml:1:1: no workflow of NAT"):
        import_nat(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_sections_of_the_wrong_sort_and_unknown_keys_are_told(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(
        "llms: [a]\nfunctions: {a: 3, b: null}\nworkflow: {_type: react_agent, llm_name: gone, "
        "tool_names: b, max_tool_calls: many}\nunheard: {of: 1}\n"
    )
    left = told(import_nat(file, tmp_path / "app").todo)
    assert left["llms"] == "must be a mapping of keys to values"
    assert left["functions.a"] == "must be a mapping with a _type"
    assert left["workflow.llm_name"] == 'there is no llm "gone": write models.gone'
    assert left["workflow.max_tool_calls"] == "must be a number of 0 or more, not 'many'"
    assert left["unheard.of"].startswith("is no key of NAT")
    with pytest.raises(UsageError, match="--out"):
        import_nat(file, tmp_path / "app")


def test_the_verb_tells_line_by_line_what_is_left(tmp_path: Path) -> None:
    arguments = ["import-nat", str(GOLDEN / "reasoning.yml"), "--out", str(tmp_path / "app")]
    told_ = CliRunner().invoke(group, arguments, catch_exceptions=False).output
    assert f"{GOLDEN / 'reasoning.yml'}:17:3: workflow.reasoning_prompt_template: a plan" in told_
    assert told_.splitlines()[-1] == f"next: kickwheel check {tmp_path / 'app'}"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["${X}", "${X:-3}", "file://no.txt", "nim_llm", "react_agent", "nim"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["_type", "a", "server", "url"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(st.sampled_from(FILES), st.data())
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_stands_in_a_file_it_becomes_an_app_or_its_mistakes_are_told(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("nat")
    plain = YAML(typ="safe").load(GOLDEN / name)
    plain.pop("base", None)
    places = [(node, key) for _, node in mappings(plain) for key in node]
    node, key = data.draw(st.sampled_from(places))
    node[key] = data.draw(anything)
    YAML(typ="safe").dump(plain, folder / "x.yml")
    with contextlib.suppress(ConfigError):
        import_nat(folder / "x.yml", folder / "app")


def _wheel(package: str, sha256: str, size: int) -> Packaged:
    name, _, version = package.partition("==")
    wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Packaged(
        package=package, wheel=wheel, wheel_sha256=sha256, wheel_bytes=size, member="",
        member_sha256="",
    )  # fmt: skip


WHEELS = [
    _wheel("nvidia-nat==1.2.0",
           "6f5188a7478a5782afb51d74af593bbd6e5cc0e1a1d9f6c10062132675ad6304", 718808),
    _wheel("nvidia-nat==1.3.0",
           "2e2499c204f2f91f4c6342f7fa5aa6b7934c0e7af58eed49933d32763cf841be", 828076),
    _wheel("nvidia-nat-core==1.7.0",
           "fb4691ad3437e0e8b8d84256d36da18085ba1fc6dd47861e7a7e64c6a808390c", 808487),
    _wheel("nvidia-nat-core==1.9.0",
           "4a5192f094a115e62a1a6db84df96e5cc18c4f556df2252a43ff998689b30a8d", 803681),
    _wheel("nvidia-nat-langchain==1.9.0",
           "177b3eb4068f0641a885522a2a9d0fd1ea58b2ee07d0ca7cd447c2e639c4566a", 199901),
    _wheel("nvidia-nat-nemo-customizer==1.9.0",
           "dcd15c1a66b94298696477e14abacce920041a4e0546fd65ec050d30a325efa4", 75241),
    _wheel("nvidia-nat-security==1.9.0",
           "ac6851a81fe4c9d09bf1afe3c3ce5278ce160aba163d28073d9ba5f091edbefc", 91545),
    _wheel("nvidia-nat-weave==1.9.0",
           "3bd002ef2ed49d6f1568dd77a4e2f3b0fb3c3e180a922b6f16e3fb5308f49d71", 59351),
    _wheel("nvidia-nat-vanna==1.6.0",
           "ad8037142c0e15f47e0fad1074967b9066f2c8e110f3ed48189f96f99829a535", 25556),
]  # fmt: skip
"""All of NAT's packages that carry configurations, as of 1.9.0 (32 were looked through): the
template of `nat workflow create`, in each of its four wordings, and the examples in their docs and
docstrings. The repository's `examples/` come in none of them."""
_FENCED = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
_BLOCK = re.compile(r"^( *)\S.*::(?: yaml)?\n\n((?:\1 +\S.*\n|\s*\n)+)", re.MULTILINE)


def configurations(wheel: Path) -> Iterator[tuple[str, str]]:
    """The configurations in the wheel, each with where it stands."""
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            if name.endswith("config.yml.j2"):
                text = opened.read(name).decode()
                yield name, re.sub(r"\{\{.*?\}\}", "my_workflow", text)
            elif name.startswith("nat/") and name.endswith((".py", ".md")):
                text = opened.read(name).decode()
                found = _FENCED.findall(text) + [block for _, block in _BLOCK.findall(text)]
                for number, block in enumerate(found):
                    if "_type:" in block:
                        yield f"{name}#{number}", textwrap.dedent(block)


@pytest.mark.slow
def test_of_the_configurations_in_nats_own_packages_nine_in_ten_load_or_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    good, wrong = [], []
    for packaged in WHEELS:
        for where, text in configurations(fetch(packaged, folder)):
            file = tmp_path / f"{len(good) + len(wrong)}.yml"
            file.write_text(text)
            try:
                import_nat(file, tmp_path / f"app{file.stem}")
            except ConfigError as error:
                wrong.append(f"{packaged.package} {where}: {error}")
            else:
                good.append(where)
    total = len(good) + len(wrong)
    with capsys.disabled():
        print(f"\n{len(good)} of {total} configurations of NAT's packages load")
        print("\n".join([*good, *wrong]))
    assert total == 20
    assert len(good) >= 0.9 * total


def test_the_page_shows_what_becomes_of_its_example(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "import-nat.md").read_text()
    config, app = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (left,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "config.yml"
    file.write_text(config)
    result = import_nat(file, tmp_path / "shop")
    plain = YAML(typ="safe")
    assert plain.load(result.app) == plain.load(app)
    said = "".join(f"{one}\n" for one in (*result.todo, *result.moot))
    assert said.replace(f"{tmp_path}/", "") == left
