"""How well an oracle predicts the constraint, on responses held out by prompt."""

import numpy as np

from acft.events import Calibration
from acft.oracle.base import Oracle
from acft.oracle.training import OracleData, predictions
from acft.statistics import auc, auc_within, bce, brier, reliability_bins


def calibrate(oracle: Oracle, data: OracleData, round_index: int) -> Calibration:
    """Ranking, error and reliability of R over all prefixes that end in a response token.

    AUC is against the hard verdict; ``*_constant`` is what the mean satisfaction would score.
    Responses count by their importance weights, so that all is about the policy itself.
    """
    by_token, by_prefix = (values.exp().numpy() for values in predictions(oracle, data))
    mask = data.window.mask[:, 1:].numpy()
    verdict = np.broadcast_to(data.verdict.numpy()[:, None], mask.shape)
    prompts = np.unique(data.prompts, return_inverse=True)[1]
    groups = np.broadcast_to(prompts[:, None], mask.shape)
    weights = np.broadcast_to(data.weights.numpy()[:, None], mask.shape)
    late = mask.copy()
    late[:, : mask.shape[1] - mask.shape[1] // 3] = False
    constant = np.full(int(mask.sum()), float((data.verdict * data.weights).mean()))
    return Calibration(
        round=round_index,
        oracle_version=oracle.version,
        n_rollouts=len(data),
        n_prompts=len(set(data.prompts)),
        metrics={
            "auc": auc(by_token[mask], verdict[mask], weights[mask]),
            "auc_last_third": auc(by_token[late], verdict[late], weights[late]),
            "auc_within_prompt": auc_within(
                by_token[mask], verdict[mask], groups[mask], weights[mask]
            ),
            "auc_prefix": auc(by_prefix[mask], verdict[mask], weights[mask]),
            "auc_prefix_last_third": auc(by_prefix[late], verdict[late], weights[late]),
            "brier": brier(by_token[mask], verdict[mask], weights[mask]),
            "brier_constant": brier(constant, verdict[mask], weights[mask]),
            "bce": bce(by_token[mask], verdict[mask], weights[mask]),
            "bce_constant": bce(constant, verdict[mask], weights[mask]),
        },
        reliability=reliability_bins(by_token[mask], verdict[mask], groups[mask], weights[mask]),
        by_position=[
            {
                "position": float(position + 1),
                "auc": auc(
                    by_token[rows, position], verdict[rows, position], weights[rows, position]
                ),
                "brier": brier(
                    by_token[rows, position], verdict[rows, position], weights[rows, position]
                ),
                "n": float(rows.sum()),
            }
            for position in range(mask.shape[1])
            if (rows := mask[:, position]).any()
        ],
    )
