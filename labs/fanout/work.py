"""Questions to take to work: plain SQL, read only, run here against the workbook's own database."""

from sqlalchemy import NullPool, create_engine, text

from labs import stack
from labs.kit.table import Table

WHO_HOLDS = """\
SELECT application_name, state, count(*) AS sessions,
       max(now() - xact_start)::text AS oldest_transaction
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY application_name, state
ORDER BY count(*) DESC"""

HOW_MANY = """\
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS reserved,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS in_use"""

QUESTIONS = {"Who holds a connection, and doing what?": WHO_HOLDS, "How many connections are there?": HOW_MANY}


class Answers:
    """Each question with its SQL and the answer of a database."""

    def __init__(self, answers: dict[str, Table]) -> None:
        self.answers = answers

    def __repr__(self) -> str:
        parts = [f"{question}\n\n{QUESTIONS[question]}\n\n{table}" for question, table in self.answers.items()]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        return "".join(
            f"<p><b>{question}</b></p><pre>{QUESTIONS[question]}</pre>{table._repr_html_()}"
            for question, table in self.answers.items()
        )


def take_to_work() -> Answers:
    """Ask the workbook's own PostgreSQL the questions, read only, and return SQL and answers."""
    engine = create_engine(stack.up().postgres.url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        return Answers({question: _ask(connection, sql) for question, sql in QUESTIONS.items()})


def _ask(connection, sql: str) -> Table:
    answer = connection.execute(text(sql))
    return Table(tuple(answer.keys()), [tuple("–" if cell is None else cell for cell in row) for row in answer])
