"""Meeting the system: its functions are shown by their names, and a name it does not have is answered with these."""

import pytest

from labs import fanout

pytestmark = pytest.mark.live


def test_a_function_is_shown_as_it_stands_in_the_step_that_runs():
    assert "def may_fan_out(author_id: int) -> bool:" in repr(fanout.show("may_fan_out", step=4))


def test_a_step_without_a_name_is_shown_whole():
    assert "celery_app = create_celery()" in repr(fanout.show(step=4))


def test_a_function_that_the_step_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(ValueError, match=r"name must be one of create_post, may_fan_out, .* for step 4, not 'nope'\.$"):
        fanout.show("nope", step=4)


def test_a_misspelt_function_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ValueError, match=r"Did you mean 'notify_followers'\?"):
        fanout.show("notify_folowers", step=4)
