"""Policies: what they let pass, what they refuse and how they say it, and where the server finds its own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry.policies import key_entry, known, pem_of, to
from shardflow.registry.policy import POLICY_FILE, Policy, PolicyInvalid, default_policy, default_text, policy_for
from shardflow.registry.policy.finding import load_file
from shardflow.registry.terms import Actor, Approval, Facts, Refusal, Status, Verdict

PEM = pem_of(ec.generate_private_key(ec.SECP256R1()))
PRODUCTION = Status.PRODUCTION


def requiring(requirement: str, extra: str = "") -> Policy:
    return Policy.load(f"{extra}rules:\n  - to: production\n    require:\n      {requirement}\n", "policy.yaml")


def refusals(policy: Policy, facts: Facts, after: Status = PRODUCTION) -> list[str]:
    return [refusal.rule for refusal in policy.judge(to(after), facts)]


def the_refusal(policy: Policy, facts: Facts) -> Refusal:
    (refusal,) = policy.judge(to(PRODUCTION), facts)
    return refusal


def test_a_metric_at_its_bound_is_enough_and_below_it_is_refused() -> None:
    policy = requiring("metrics: {accuracy: {at_least: 0.9}, loss: {at_most: 0.3}}")
    assert policy.needs(to(PRODUCTION)) == {"metrics"}
    assert refusals(policy, known(metrics={"accuracy": 0.9, "loss": 0.3})) == []
    refusal = the_refusal(policy, known(metrics={"accuracy": 0.89, "loss": 0.3}))
    assert str(refusal) == "get accuracy to 0.9 or more (it is 0.89)"


def test_a_metric_that_was_never_logged_or_is_no_number_is_refused() -> None:
    policy = requiring("metrics: {accuracy: {at_least: 0.9}}")
    assert str(the_refusal(policy, known())) == "log the metric accuracy on the model (the model has none of that name)"
    assert refusals(policy, known(metrics={"accuracy": float("nan")})) == ["metrics"]


def test_better_than_production_by_a_margin() -> None:
    policy = requiring("better_than_production: {accuracy: {by: 0.01}, loss: {by: 0.1, lower_is_better: true}}")
    assert policy.needs(to(PRODUCTION)) == {"metrics", "production"}
    better = {"accuracy": 0.92, "loss": 0.5}
    assert refusals(policy, known(metrics=better)) == []  # nothing is in production yet
    assert refusals(policy, known(metrics=better, production={"accuracy": 0.90, "loss": 0.7})) == []
    refusal = the_refusal(policy, known(metrics=better, production={"accuracy": 0.915, "loss": 0.7}))
    assert str(refusal) == "get accuracy to 0.925 or more (it is 0.92, and production has 0.915)"
    assert refusals(policy, known(metrics=better, production={"accuracy": 0.5})) == ["better_than_production"]


def test_without_a_margin_equal_is_not_better() -> None:
    policy = requiring("better_than_production: {accuracy: {}}")
    assert refusals(policy, known(metrics={"accuracy": 0.9}, production={"accuracy": 0.9})) == [
        "better_than_production"
    ]


def test_an_evaluation_counts_by_its_suite_and_key_and_the_last_one_decides() -> None:
    policy = requiring("evaluation: {suite: smoke, by: ci}", f"keys:\n{key_entry('ci', PEM)}")
    passed, failed = Verdict(True, "smoke", "ci", 1.0), Verdict(False, "smoke", "ci", 2.0)
    assert refusals(policy, known(verdicts=(passed,))) == []
    assert the_refusal(policy, known(verdicts=(failed, passed))).found == "the last one of 'smoke' failed"
    for other in (Verdict(True, "other", "ci", 3.0), Verdict(True, "smoke", "ada", 3.0)):
        assert the_refusal(policy, known(verdicts=(other,))).remedy == "record an evaluation of the suite 'smoke' by ci"


def test_why_evidence_was_dismissed_is_told() -> None:
    refusal = the_refusal(requiring("evaluation: true"), known(dismissed=("a statement was altered",)))
    assert refusal.found == "llama/3 has none that counts: a statement was altered"


def test_approvals_are_counted_by_person_and_the_author_does_not_count() -> None:
    keys = "keys:\n" + "".join(key_entry(name, PEM) for name in ("ada", "bob", "eve"))
    policy = requiring("approvals: {count: 2, from: reviewers}", f"{keys}groups: {{reviewers: [ada, bob]}}\n")
    assert policy.needs(to(PRODUCTION)) == {"approvals", "author"}
    ada, bob, eve = (Approval(name, PRODUCTION, name, 1.0) for name in ("ada", "bob", "eve"))
    assert refusals(policy, known(approvals=(ada, bob), author="eve")) == []
    assert refusals(policy, known(approvals=(ada, ada, eve), author="zoe")) == ["approvals"]
    assert refusals(policy, known(approvals=(ada, bob), author="bob")) == ["approvals"]
    assert refusals(policy, known(approvals=(ada, bob))) == ["approvals"]  # anybody could be the author
    refusal = the_refusal(policy, known(approvals=(eve,), author="zoe"))
    assert refusal.remedy == "get it approved by 2 of reviewers: shardflow approve llama/3 --for production"


def test_an_approval_for_another_status_does_not_count() -> None:
    policy = requiring("approvals: {not_author: false}")
    staging = Approval("ada", Status.STAGING, "ada", 1.0)
    assert policy.needs(to(PRODUCTION)) == {"approvals"}
    assert refusals(policy, known(approvals=(staging,))) == ["approvals"]


def test_a_signature_by_the_named_key() -> None:
    keys = f"keys:\n{key_entry('ci', PEM)}{key_entry('ada', PEM)}"
    policy = requiring("signature: {by: ci}", keys)
    assert refusals(policy, known(signed_by=("ci",))) == []
    assert the_refusal(policy, known(signed_by=("ada",))).found == "signed by ada only"
    assert the_refusal(requiring("signature: true"), known()).remedy == "sign it: shardflow sign llama/3"


def test_a_complete_lineage() -> None:
    policy = requiring("lineage: [run, dataset]")
    assert refusals(policy, known(lineage_gaps=("code",))) == []
    assert the_refusal(policy, known(lineage_gaps=("code", "dataset"))).remedy == "log the model with its dataset"
    assert refusals(requiring("lineage: true"), known(lineage_gaps=("code",))) == ["lineage"]


def test_a_time_in_the_status_before() -> None:
    policy = requiring("time_in_status: 24h")
    assert refusals(policy, known(entered_at=100_000.0 - 86_400)) == []
    assert str(the_refusal(policy, known(entered_at=96_400.0))) == "wait 23.0 h more (it is in staging for 60 min)"
    assert refusals(policy, known()) == ["time_in_status"]


def test_an_identity_that_was_checked() -> None:
    policy = requiring("verified_identity: true")
    assert policy.needs(to(PRODUCTION)) == frozenset()
    assert policy.judge(to(PRODUCTION), known()) == ()
    (refusal,) = policy.judge(to(PRODUCTION, actor=Actor("ada")), known())
    assert refusal.remedy == "ask for it signed in to the server"


def test_rules_hold_for_the_models_and_moves_that_they_name_and_add_up() -> None:
    policy = Policy.load(
        "rules:\n"
        "  - {models: [llama-*], to: production, require: {evaluation: true}}\n"
        "  - {models: '*', to: [staging, production], from: testing, require: {signature: true}}\n",
        "policy.yaml",
    )
    assert policy.judge(to(PRODUCTION, model="bert"), known()) == ()
    found = policy.judge(to(PRODUCTION, Status.TESTING, "llama-7b"), known())
    assert [refusal.rule for refusal in found] == ["evaluation", "signature"]
    assert policy.judge(to(PRODUCTION, model="Llama-7b"), known()) == ()


@pytest.mark.parametrize(
    ("pattern", "there", "not_there"),
    [
        ("llama[v2]", "llama[v2]", "llamav"),
        ("what?", "what?", "whatx"),
        ("[*]?", "[some]?", "m?"),
        ("*-prod", "a\nb-prod", "prod"),
        ("l*a**a", "llama", "llam"),
    ],
)
def test_in_a_pattern_only_the_asterisk_stands_for_other_letters(pattern: str, there: str, not_there: str) -> None:
    policy = Policy.load(
        f"rules: [{{models: ['{pattern}'], to: production, require: {{verified_identity: true}}}}]", "policy.yaml"
    )
    anybody = Actor("ada")
    assert policy.judge(to(PRODUCTION, model=there, actor=anybody), known())
    assert not policy.judge(to(PRODUCTION, model=not_there, actor=anybody), known())


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("rules:\n - to: staging\n   require:\n     metrics:\n       f1: {at_lest: 1}", "5:13", "'at_lest' means"),
        ("rules:\n - to: produktion\n   require: {}", "2:8", "'produktion' is not one of"),
        ("rules:\n - to: production", "2:4", "no 'require'"),
        ("rules:\n - to: staging\n   require: {evaluation: maybe}", "3:26", "single value where keys"),
        ("rules:\n - to: staging\n   require: {verified_identity: {}}", "3:33", "true or false"),
        ("rules:\n - to: staging\n   require: {time_in_status: 24}", "3:30", "'24' is not a time"),
        ("rules:\n - to: staging\n   require: {metrics: {f1: {at_least: high}}}", "3:39", "'high' is not a number"),
        ("rules:\n - to: staging\n   require: {metrics: {f1: {at_least: .nan}}}", "3:39", "not a number"),
        ("rules:\n - to: staging\n   require: {metrics: {f1: {at_least: 2, at_most: 1}}}", "3:28", "no value of 'f1'"),
        ("rules:\n - to: staging\n   require: {better_than_production: {f1: {by: -1}}}", "3:48", "not negative"),
        ("rules:\n - to: staging\n   require: {approvals: {count: 0}}", "3:33", "whole number"),
        ("rules:\n - to: staging\n   require: {approvals: {from: [ada]}}", "3:33", "'ada' is neither"),
        ("rules:\n - to: staging\n   require: {signature: {by: ci}}", "3:30", "no key 'ci'"),
        ("rules:\n - to: staging\n   require: {lineage: [runs]}", "3:24", "'runs' is not one of"),
        ("rules: []\nrules: []", "2:1", "'rules' is here twice"),
        ("rules: []\ngroups: {a: [b]}", "2:14", "'b' is nobody"),
        ("rules: []\nkeys: {ci: {public: nonsense}}", "2:21", "no public key"),
        ("rules: []\nkeys: {ci: {identity: me}}", "2:12", "'ci' is no key"),
        ("rules: &all []\n", "1:8", "no anchors"),
        ("rules: *all\n", "1:8", "no anchors"),
        ("rules: [\n", "2:1", "not YAML"),
        ("rules:\n\t- a", "2:1", "not YAML"),
        ("rules: []\nname: \x00", "2:7", "no place for"),
        ("", "1:1", "empty"),
        ("[]", "1:1", "list where keys and values belong"),
        ("keys: {}", "1:1", "there are no rules"),
        ("rules: " + "[" * 40 + "]" * 40, "1:27", "too deep"),
        ("rules: 0b_", "1:8", "single value"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, place: str, problem: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        Policy.load(text, "policy.yaml")
    assert str(caught.value).startswith(f"policy.yaml:{place}: ")
    assert problem in caught.value.message


def test_a_misspelt_word_is_told_with_the_right_one() -> None:
    with pytest.raises(PolicyInvalid, match="did you mean 'evaluation'"):
        requiring("evalution: true")


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP224R1()])
def test_a_key_that_cannot_sign_models_is_refused(curve: ec.EllipticCurve) -> None:
    pem = pem_of(ec.generate_private_key(curve))
    with pytest.raises(PolicyInvalid, match="secp256r1"):
        Policy.load(f"keys:\n{key_entry('ci', pem)}rules: []\n", "policy.yaml")


def test_the_default_asks_for_an_evaluation_before_production_and_nothing_else() -> None:
    policy = default_policy()
    for status in set(Status) - {PRODUCTION}:
        assert policy.judge(to(status), known()) == ()
    assert refusals(policy, known()) == ["evaluation"]


def test_the_default_with_its_examples_switched_on_is_a_policy_too() -> None:
    lines = [line.replace("  #", "  ", 1) if line.startswith("  #") else line for line in default_text().splitlines()]
    lines = [line.removeprefix("#") if line.startswith(("#groups", "#  reviewers")) else line for line in lines]
    text = "\n".join(line for line in lines if not line.startswith(("   More", "   What")))
    keys = "keys:\n" + "".join(key_entry(name, PEM) for name in ("ada", "grace", "ci"))
    policy = Policy.load(text.replace("keys: {}", keys), "policy.yaml")
    wanted = policy.needs(to(PRODUCTION, model="llama-7b"))
    assert wanted == set(Facts.__dataclass_fields__) - {"dismissed"}


def test_the_policy_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(Policy.load(example, "docs").rules.rules) == 2


def test_the_server_finds_the_file_beside_its_database_and_sees_when_it_changes(tmp_path: Path) -> None:
    uri = f"shardflow-sqlite:///{tmp_path}/registry.db"
    assert policy_for(uri, {}) is default_policy()
    file = tmp_path / POLICY_FILE
    file.write_text("rules: []")
    assert policy_for(uri, {}).judge(to(PRODUCTION), known()) == ()
    assert policy_for(uri, {}) is policy_for(uri, {})
    file.write_text("rules: [{to: production, require: {signature: true}}]")
    assert refusals(policy_for(uri, {}), known()) == ["signature"]


def test_the_environment_names_the_policy_of_any_database(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("rules: []")
    found = policy_for("shardflow-postgresql://host/db", {"SHARDFLOW_POLICY": str(file)})
    assert found.judge(to(PRODUCTION), known()) == ()
    assert policy_for("postgresql://host/db", {}) is default_policy()


@pytest.mark.parametrize("content", [b"rules: [", b"\xff\xfe", b"", None])
def test_a_policy_that_cannot_be_read_refuses_every_move_and_says_why(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "policy.yaml"
    if content is not None:
        file.write_bytes(content)
    policy = policy_for("sqlite:///db", {"SHARDFLOW_POLICY": str(file)})
    for status in Status:
        (refusal,) = policy.judge(to(status), known())
        assert refusal.remedy == "mend the policy of this server"
        assert "policy.yaml" in refusal.found
    assert policy.needs(to(PRODUCTION)) == frozenset()


def test_a_link_to_nowhere_beside_the_database_is_a_policy_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / POLICY_FILE).symlink_to(tmp_path / "gone.yaml")
    assert policy_for(f"sqlite:///{tmp_path}/r.db", {}).broken


def test_a_policy_of_megabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.touch()
    os.truncate(file, 1 << 30)
    assert "too large" in str(policy_for("sqlite:///db", {"SHARDFLOW_POLICY": str(file)}).broken)


def test_a_policy_file_is_named_in_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("rule: []")
    with pytest.raises(PolicyInvalid, match=r"^mine.yaml:1:1: 'rule' means nothing here; did you mean 'rules'\?$"):
        load_file(file)
