"""The tests that every framework passes; a test file subclasses them and names its `FRAMEWORK`."""

from pathlib import Path

import pytest
from tests.bridges import checks, examples, telemetry
from tests.bridges.conftest import Recording, Served
from tests.bridges.desk import Framework
from tests.bridges.stub import Stub


class Truths:
    """What is true of the `FRAMEWORK` of the module: recorded, as ours, ours as theirs."""

    @pytest.fixture
    def framework(self, request: pytest.FixtureRequest) -> Framework:
        framework: Framework = request.module.FRAMEWORK
        return framework

    @pytest.fixture
    def module(self, request: pytest.FixtureRequest) -> str:
        """The module as an app file names it: `made` makes an agent, `offered` a tool."""
        return str(request.module.__name__)

    @pytest.mark.shows("recorded")
    async def test_its_traffic_is_recorded(
        self, framework: Framework, stub: Stub, recording: Recording
    ) -> None:
        await checks.recorded(framework, recording, streamed=False)

    @pytest.mark.shows("recorded", "streamed")
    async def test_its_streams_are_recorded(
        self, framework: Framework, stub: Stub, recording: Recording
    ) -> None:
        await checks.recorded(framework, recording, streamed=True)

    @pytest.mark.shows("tools equal")
    async def test_our_tools_reach_the_model_as_from_our_agent(
        self, framework: Framework, stub: Stub, served: Served
    ) -> None:
        known = getattr(framework, "known", None)
        await checks.tools_equal(framework, stub, served, *((known,) if known else ()))

    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.as_ours(framework, app_file, module, stub)

    @pytest.mark.shows("as ours")
    async def test_its_work_is_done_once_whenever_its_run_goes_on(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.read_back(framework, app_file, module)

    @pytest.mark.shows("as ours", "streamed")
    async def test_who_reads_no_further_ends_its_work(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.left_early(framework, app_file, module, stub)

    @pytest.mark.shows("as ours")
    async def test_its_tool_works_in_an_agent_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.their_tools(framework, app_file, module)

    @pytest.mark.shows("ours as theirs")
    async def test_what_is_ours_works_in_its_agent(
        self, framework: Framework, stub: Stub, served: Served
    ) -> None:
        await checks.ours_as_theirs(framework, served, stub)

    @pytest.mark.shows("ours as theirs")
    async def test_arguments_may_have_any_name_and_mistakes_are_told(
        self, framework: Framework, stub: Stub, served: Served
    ) -> None:
        await checks.any_names(framework, served, stub)

    @pytest.mark.shows("its own telemetry")
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_what_it_tells_of_itself_is_a_trace_of_ours(
        self, framework: Framework, stub: Stub, recording: Recording, streamed: bool
    ) -> None:
        traces = await telemetry.told(framework, stub, recording, streamed=streamed)
        telemetry.whole(framework, traces, streamed=streamed)

    async def test_its_example_on_the_page_works(
        self, framework: Framework, tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await examples.works(framework, tmp_path, stub, monkeypatch)
