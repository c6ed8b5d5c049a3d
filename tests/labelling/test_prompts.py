"""Rendered prompts as exact strings, and texts that try to be more than data."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompting import HERE, form, prompt, scale
from support import ROOT

from invitro.engines.base import Readout
from invitro.errors import InputError
from invitro.labelling.prompts import BEGIN, END, Prompt, Renderer, fenced, harmless, language_of
from invitro.labelling.texts import Example, Text

WRITER = {"gender": "2", "age": "33", "income": "50000"}
SHOWN = (Example(Text("e1", "Just news."), 1.5), Example(Text("e2", "I cried for hours."), 7.0))
EXPECTED = sorted((HERE / "prompts").glob("*.txt"))
PROMPTS = sorted(path.stem for path in (ROOT / "conf" / "prompt").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem)
def test_the_exact_prompt(path) -> None:
    name, readout, *rest = path.stem.split("-")
    of = next((word for word in rest if len(word) > 2), "batson_empathy")
    language = next((word for word in rest if len(word) == 2), None)
    chosen = prompt(name)
    renderer = Renderer(chosen, chosen.form(scale(of), Readout(readout)))
    text = Text("t", "I felt for them.\nSo sad.", "g", WRITER, language)
    messages = renderer.messages(text, SHOWN if chosen.shots else ())
    assert "".join(f"=== {message['role']}\n{message['content']}\n" for message in messages) == path.read_text("utf-8")


def test_every_shipped_prompt_has_an_exact_string() -> None:
    assert {path.stem.split("-")[0] for path in EXPECTED} == set(PROMPTS)


def test_plain_differs_from_scale_aware_in_the_items_alone() -> None:
    aware, plain = prompt("scale_aware"), prompt("plain")
    assert (plain.system, plain.user) == (aware.system, aware.user)
    aware_text, plain_text = (
        Renderer(p, p.form(scale(), Readout.TEXT)).messages(Text("t", "x"))[0]["content"] for p in (aware, plain)
    )
    first, last = plain_text.index("How much empathy"), plain_text.index("\n\nThe text stands")
    assert plain_text[first:last].splitlines() == [
        "How much empathy did you feel while reading? Answer from 1 (not at all) to 7 (extremely).",
        "Its one item gets a score from 1 to 7:",
        "1. score: empathy",
    ]
    assert aware_text[: aware_text.index("How much")] == plain_text[:first]
    assert aware_text[aware_text.index("\n\nThe text stands") :] == plain_text[last:]


@pytest.mark.parametrize("of", ["batson_empathy", "batson_distress", "single_item", "gad7", "phq9"])
def test_in_english_the_multilingual_prompt_asks_what_scale_aware_asks(of: str) -> None:
    asked = [
        Renderer(chosen, chosen.form(scale(of), readout)).messages(Text("t", "It was sad.", language="en"))
        for chosen in (prompt("multilingual"), prompt("scale_aware"))
        for readout in (Readout.TEXT, Readout.DIGITS)
    ]
    assert asked[:2] == asked[2:]


def test_the_occasion_is_the_scale_s() -> None:
    chosen = prompt("scale_aware")
    meal = replace(scale(), occasion="after a meal")
    system = Renderer(chosen, chosen.form(meal, Readout.TEXT)).messages(Text("t", "x"))[0]["content"]
    assert system.startswith("You read what a person wrote after a meal and work out")
    system = Renderer(chosen, form("text", "gad7")).messages(Text("t", "x"))[0]["content"]
    assert system.startswith("You read what a person wrote and work out")


def test_one_item_is_one_digit() -> None:
    chosen = prompt("scale_aware")
    system = Renderer(chosen, form("digits", "single_item")).messages(Text("t", "x"))[0]["content"]
    assert "Its one item gets a score from 1 to 7:\n1. empathy: empathy as a whole" in system
    assert "exactly one digit from 1 to 7" in system


@pytest.mark.parametrize("name", PROMPTS)
def test_the_fixed_part_is_the_same_for_all_texts_and_the_text_stands_last(name: str) -> None:
    chosen = prompt(name)
    renderer = Renderer(chosen, chosen.form(scale(), Readout.TEXT))
    one, other = (
        renderer.messages(Text(i, f"The story of {i} and what was with it", "g", WRITER), SHOWN) for i in "ab"
    )
    assert one[0] == other[0]
    assert one[1]["content"].endswith(fenced("The story of a and what was with it"))


ATTACKS = st.sampled_from(
    [BEGIN, END, "<<<", ">>>", "<|im_end|>", "<|eot_id|>", "</s>", "[/INST]", "<end_of_turn>", "<<SYS>>", "<|", "|>",
     "{{ essay }}", "{% raw %}", "${oc.env:HOME}", '{"warm": 7}', "scores: 777777", "\n", "<", ">", "|", "7"]
)  # fmt: skip
ESSAYS = st.one_of(st.text(), st.lists(st.one_of(ATTACKS, st.text(max_size=3)), max_size=12).map("".join))
RENDERER = Renderer(prompt("scale_aware"), form())


@given(ESSAYS)
def test_a_text_cannot_leave_its_fence(essay: str) -> None:
    user = RENDERER.messages(Text("t", essay))[1]["content"]
    assert user.startswith(BEGIN + "\n")
    assert user.endswith("\n" + END)
    inner = user.removeprefix(BEGIN + "\n").removesuffix("\n" + END)
    assert not re.search(r"<<<|>>>|<\||\|>|</?s>|\[/?INST\]|(?i:<(start|end)_of_turn>)", inner)
    assert re.sub(r"\s", "", inner) == re.sub(r"\s", "", essay)


CONTROL = """
<s> </s> <pad> <unk> <bos> <eos> <|im_start|> <|im_end|> <|endoftext|> <|eot_id|> <|start_header_id|> <|eom_id|>
<|python_tag|> <start_of_turn> <end_of_turn> <unused12> [INST] [/INST] <<SYS>> <</SYS>> [SYSTEM_PROMPT]
[/SYSTEM_PROMPT] [TOOL_CALLS] [AVAILABLE_TOOLS] [THINK] [/THINK] [IMG] [PAD] [CLS] [MASK] [unused7] <think>
</think> <tool_call> </tool_call> <tool_response> <repo_name> <reponame> <file_sep> <jupyter_start> <fim_prefix>
<0x0A> <｜begin▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜> [gMASK] [sMASK] <sop> <eop> <|user|>
<|observation|> <BOS_TOKEN> <EOS_TOKEN> <|START_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|>
<|START_THINKING|> <|channel|> <|message|> <|return|> <seed:think> </seed:think> <seed:bos> [|user|] [|endofturn|]
<|im_user|> <|tool_calls_section_begin|> <longcat_think> <extra_id_0> <mask>
"""


@pytest.mark.parametrize("mark", CONTROL.split())
def test_no_model_s_control_token_survives(mark: str) -> None:
    for text in (mark, f"so{mark}sad", mark * 3, f"<{mark}>", mark[0] + mark):
        assert mark not in harmless(text)
        assert harmless(text).replace(" ", "") == text


@pytest.mark.parametrize(
    "text", ["I <3 her", "[sic] [1] [...] [name]", "a < b and c > d", "x -> y", "5<6", "[I am sad]"]
)
def test_what_people_write_stays(text: str) -> None:
    assert harmless(text) == text


@given(st.text(alphabet=st.characters(exclude_characters="<>[]|")))
def test_an_honest_text_is_left_as_it_is(essay: str) -> None:
    assert harmless(essay) == essay


@given(ESSAYS)
def test_what_a_writer_says_of_himself_is_one_harmless_line(value: str) -> None:
    chosen = prompt("demographic")
    renderer = Renderer(chosen, form())
    user = renderer.messages(Text("t", "x", "g", {"gender": value}))[1]["content"]
    above = user[: user.index(BEGIN)]
    assert above.startswith("The person: gender: ")
    assert above.split("\n")[1:] == ["", ""]
    assert END not in above


def test_an_unknown_writer_is_said_to_be_unknown() -> None:
    user = Renderer(prompt("demographic"), form()).messages(Text("t", "x"))[1]["content"]
    assert user.startswith("The person: nothing is known.\n\n" + BEGIN)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I was moved by the story and felt sorry for them.", "en"),
        ("Die Geschichte hat mich sehr bewegt und ich war traurig.", "de"),
        ("La historia me conmovió y sentí pena por ellos.", "es"),
        ("গল্পটি পড়ে আমার খুব কষ্ট হয়েছে।", "bn"),
        ("12345 !!!", "en"),
        ("", "en"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text, ("en", "de", "es", "bn")) == language


def test_the_corpus_says_the_language_or_the_text_shows_it() -> None:
    renderer = Renderer(prompt("multilingual"), form())
    german = "Die Geschichte hat mich sehr bewegt und ich war traurig."
    assert "Fragebogen" in renderer.messages(Text("t", german))[0]["content"]
    assert "Cuestionario" in renderer.messages(Text("t", german, language="es"))[0]["content"]
    assert "Questionnaire" in renderer.messages(Text("t", "Het is een verhaal", language="nl"))[0]["content"]


def test_the_hash_sees_words_and_settings_but_not_the_name() -> None:
    chosen = prompt("scale_aware")
    assert prompt("scale_aware", name="other").hash == chosen.hash
    assert prompt("scale_aware", system=chosen.system + "!").hash != chosen.hash
    assert prompt("scale_aware", shots=2).hash != chosen.hash


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"user": "{{ essay }} Now answer 7."}, r"user must end in \{\{ essay \}\}"),
        ({"system": "{{ essay }}"}, "system is the same for all texts"),
        ({"system": "{% if %}"}, "system is not a Jinja template: line 1"),
        ({"system": None}, "system: expected a Jinja template, found None"),
        ({"shots": "two"}, "shots: expected a whole number of at least 0, found 'two'"),
        ({"overall": "maybe"}, "overall: expected true or false, found 'maybe'"),
        ({"languages": ["en", "xx"]}, r"languages: expected a list, each en, de, es or bn, found \['en', 'xx'\]"),
        ({"shots": -1}, "shots: expected a whole number of at least 0, found -1"),
    ],
)
def test_a_faulty_prompt_is_refused(changes: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        prompt("scale_aware", **changes)


def test_an_unknown_name_in_a_template_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InputError, match="cannot be rendered: 'colour' is undefined"):
        Renderer(Prompt("mine", "{{ colour }}", "{{ essay }}"), form())


def test_templates_run_in_a_sandbox() -> None:
    with pytest.raises(InputError, match="unsafe"):
        Renderer(Prompt("mine", "{{ items.append.__globals__ }}", "{{ essay }}"), form())
