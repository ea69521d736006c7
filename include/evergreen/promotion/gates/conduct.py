"""Gates on how a candidate behaves when its inputs are changed on purpose."""

from __future__ import annotations

from evergreen.promotion.gates.base import Challenger, Champion, GateResult, Policy, decided, number


def behaviour(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Does it look at purchases alone, like more of them, and put a weekly purchase first?"""
    limits = policy.evaluation.behaviour
    seen = challenger.behaviour
    observed: dict[str, float] = {}
    reasons = []
    for name, what in (("ids", "other identifiers"), ("order", "another order of the rows")):
        observed[name] = number(seen["invariance"][name]["max_change"], f"invariance.{name}")
        if observed[name] > limits.max_change:
            reasons.append(
                f"{what} change a probability by {observed[name]:.2g}, at most {limits.max_change:g} is allowed"
            )
    observed["renamed"] = number(seen["invariance"]["renamed"]["change_share"], "invariance.renamed")
    if observed["renamed"] > limits.max_rename_change:
        reasons.append(
            f"another name of the product changes a probability by {observed['renamed']:.1%} of the mean one, "
            f"at most {limits.max_rename_change:.0%} is allowed"
        )
    for name, what in (("sooner", "a more recent purchase"), ("once_more", "one more purchase")):
        observed[name] = number(seen["direction"][name]["change_share"], f"direction.{name}")
        if observed[name] < -limits.max_direction_loss:
            reasons.append(f"{what} lowers the probability by {-observed[name]:.1%} on average, it must not lower it")
    observed["weekly_first"] = number(seen["minimum_function"]["first_share"], "minimum_function.first_share")
    if observed["weekly_first"] < limits.min_weekly_first:
        reasons.append(
            f"a product bought every week comes first for {observed['weekly_first']:.0%} of the customers, "
            f"at least {limits.min_weekly_first:.0%} is asked"
        )
    bounds = {
        "ids": limits.max_change,
        "order": limits.max_change,
        "renamed": limits.max_rename_change,
        "sooner": -limits.max_direction_loss,
        "once_more": -limits.max_direction_loss,
        "weekly_first": limits.min_weekly_first,
    }
    return decided("behaviour", observed, bounds, reasons)


def robustness(challenger: Challenger, _champion: Champion | None, policy: Policy) -> GateResult:
    """Does it lose little when features are missing, noisy, or nudged against it?"""
    limits = policy.evaluation.robustness
    observed: dict[str, dict[str, float]] = {}
    reasons = []
    for kind in limits.max_roc_auc_loss:
        figures = challenger.robustness[kind]
        loss = {
            name: number(figures[name], f"{kind}.{name}") for name in ("roc_auc_loss", "average_precision_loss_share")
        }
        observed[kind] = loss
        if loss["roc_auc_loss"] > limits.max_roc_auc_loss[kind]:
            reasons.append(
                f"{kind} features cost {loss['roc_auc_loss']:.4f} of ROC AUC, at most {limits.max_roc_auc_loss[kind]:g}"
            )
        if loss["average_precision_loss_share"] > limits.max_average_precision_loss_share[kind]:
            reasons.append(
                f"{kind} features cost {loss['average_precision_loss_share']:.1%} of average precision, "
                f"at most {limits.max_average_precision_loss_share[kind]:.0%}"
            )
    bounds = {
        "roc_auc_loss": dict(limits.max_roc_auc_loss),
        "average_precision_loss_share": dict(limits.max_average_precision_loss_share),
    }
    return decided("robustness", observed, bounds, reasons)
