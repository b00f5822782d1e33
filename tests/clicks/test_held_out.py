from sameitem.clicks.held_out import SHARE, is_held_out


def test_a_tenth_of_all_names_is_held_out() -> None:
    held_out = sum(is_held_out(f"search-{number}") for number in range(20_000))
    assert abs(held_out / 20_000 - SHARE) < 0.01  # 4.7 standard deviations


def test_the_same_names_are_held_out_on_every_machine_and_in_every_release() -> None:
    assert [number for number in range(40) if is_held_out(str(number))] == [9, 39]


def test_a_name_of_any_characters_is_told() -> None:
    assert isinstance(is_held_out("\ud800 杯子"), bool)
