"""Five hundred clients that vanish leave no sequence, no KV and no task behind."""

import asyncio

import pytest
from load_tests.client import Target, encode_request, run_closed_loop
from load_tests.peers import pagemill
from load_tests.runs import run_async
from load_tests.scenarios import PlannedRequest
from load_tests.sse import read_record
from load_tests.vanish import VanishPoint, check_server, gauge, plan, read_leftovers, vanish_all

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, running_server, wait_until

LONG = PlannedRequest(tuple(b"Tell me about the mill."), 3000)


def test_five_hundred_vanished_clients_leave_nothing_in_a_server_process() -> None:
    result = check_server(pagemill.fake_command(num_slots=64), "Tell me about the mill.", 3000, 500, settle_s=10)
    assert result.leftovers.none
    assert result.by_point == {point.value: 125 for point in VanishPoint}
    assert result.extra_files <= 1
    assert result.next_ttft_s > 0  # the next request was answered


def num_tasks(server: RunningServer) -> int:
    loop = server.engine._loop
    assert loop is not None
    return len(asyncio.all_tasks(loop))


def test_vanished_clients_leave_no_sequence_no_kv_and_no_task() -> None:
    backend = FakeBackend(reply=lambda prompt: tuple(b"on " * 1000), max_num_seqs=16)
    with running_server(backend) as server:
        target = Target(port=server.port, model="fake")
        short = PlannedRequest(tuple(b"Well?"), 5)
        run_async(lambda: run_closed_loop(target, [encode_request(target, short)], 1))
        wait_until(lambda: server.engine.num_unfinished() == 0)
        tasks_before = num_tasks(server)
        run_async(lambda: vanish_all(target, plan(200, seed=1), encode_request(target, LONG)))
        wait_until(lambda: num_tasks(server) <= tasks_before)
        wait_until(lambda: server.engine.num_unfinished() == backend.num_sequences == 0)
        stats = server.engine.stats()
        assert (stats.num_running, stats.num_waiting, stats.kv.used_tokens) == (0, 0, 0)
        assert stats.finished.get("abort", 0) > 0, "no client got so far as to leave something behind"
        [response] = run_async(lambda: run_closed_loop(target, [encode_request(target, short)], 1))
        assert read_record(response, short).output_tokens == 5


def test_a_plan_has_every_point_and_both_ways_to_go() -> None:
    planned = plan(40, seed=3)
    assert planned == plan(40, seed=3)
    assert planned != plan(40, seed=4)
    for point in VanishPoint:
        own = [vanisher for vanisher in planned if vanisher.point is point]
        assert len(own) == 10
    assert {vanisher.reset for vanisher in planned} == {True, False}


def test_leftovers_are_read_from_the_metrics_of_all_models() -> None:
    metrics = (
        "# HELP pagemill_num_requests_running Running.\n"
        'pagemill_num_requests_running{model_name="a"} 2.0\npagemill_num_requests_running{model_name="b"} 1.0\n'
        'pagemill_num_requests_waiting{model_name="a"} 0.0\npagemill_kv_cache_usage_perc{model_name="a"} 0.25\n'
    )
    leftovers = read_leftovers(metrics)
    assert (leftovers.num_running, leftovers.num_waiting, leftovers.kv_usage) == (3.0, 0.0, 0.25)
    assert not leftovers.none
    with pytest.raises(LookupError, match="no such_metric"):
        gauge(metrics, "such_metric")
