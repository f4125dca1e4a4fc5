"""The SimilarityTransformer: invariances, heads that start at zero, and learning."""

import torch

from thesis_rec.thesis.similarity_transformer import SimilarityTransformer


def make(seed=0, trained=True, **arguments):
    torch.manual_seed(seed)
    network = SimilarityTransformer(
        model_dim=5, token_dim=7, width=16, n_layers=2, n_heads=2, rank=4, **arguments
    ).eval()
    if trained:
        # The heads start at zero, where all models are alike and the tests would see nothing.
        for parameter in network.heads.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def batch(seed=1, n_models=6, n_tokens=5):
    generator = torch.Generator().manual_seed(seed)
    models = torch.randn(n_models, 5, generator=generator)
    tokens = torch.randn(3, n_tokens, 7, generator=generator)
    mask = torch.ones(3, n_tokens, dtype=torch.bool)
    mask[1, 3:] = False
    return models, tokens, mask


def close(one, other):
    for name in ("score", "value", "log_std"):
        torch.testing.assert_close(one[name], other[name], atol=2e-5, rtol=1e-4)


class TestInvariance:
    def test_shapes(self):
        out = make()(*batch())
        assert {key: tuple(value.shape) for key, value in out.items()} == {
            "score": (3, 6),
            "value": (3, 6),
            "log_std": (3, 6),
        }

    def test_the_order_of_tokens_does_not_matter(self):
        models, tokens, mask = batch()
        network, order = make(), torch.tensor([4, 2, 0, 1, 3])
        close(network(models, tokens, mask), network(models, tokens[:, order], mask[:, order]))

    def test_the_order_of_models_is_the_order_of_scores(self):
        models, tokens, mask = batch()
        network, order = make(), torch.tensor([5, 0, 3, 1, 2, 4])
        out = network(models, tokens, mask)
        close(
            {key: value[:, order] for key, value in out.items()},
            network(models[order], tokens, mask),
        )

    def test_a_score_does_not_depend_on_the_other_candidates(self):
        models, tokens, mask = batch()
        network = make()
        out = network(models, tokens, mask)
        close({key: value[:, 2:4] for key, value in out.items()}, network(models[2:4], tokens, mask))

    def test_padding_is_invisible(self):
        models, tokens, mask = batch()
        network = make()
        out = network(models, tokens, mask)
        noise = torch.where(mask[..., None], tokens, torch.full_like(tokens, 50.0))
        close(out, network(models, noise, mask))
        close(
            {key: value[1:2] for key, value in out.items()},
            network(models, tokens[1:2, :3], mask[1:2, :3]),
        )

    def test_models_and_tokens_both_matter(self):
        models, tokens, mask = batch()
        network = make()
        score = network(models, tokens, mask)["score"]
        assert not torch.allclose(score, network(models + 1, tokens, mask)["score"], atol=1e-3)
        other = network(models, tokens.flip(0), mask)["score"] - score
        # Not merely a shift of all models of a dataset, which would not change any ranking.
        assert (other[0] - other[0].mean()).abs().max() > 1e-3

    def test_before_training_all_models_are_alike(self):
        models, tokens, mask = batch()
        network = make(trained=False)
        assert (network(models, tokens, mask)["score"] == 0).all()

    def test_it_learns_which_models_suit_which_tokens(self):
        torch.manual_seed(0)
        network = make(trained=False, dropout=0.0).train()
        models = torch.randn(12, 5)
        tokens = torch.randn(40, 3, 7)
        truth = torch.einsum("me,be->bm", models, tokens.mean(1)[:, :5])
        truth = (truth - truth.mean(1, keepdim=True)) / truth.std(1, keepdim=True)
        mask = torch.ones(40, 3, dtype=torch.bool)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(60):
            loss = (network(models, tokens, mask)["score"] - truth).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.4  # a constant has 1


def test_interacting_candidates_do_see_each_other():
    models, tokens, mask = batch()
    network = make(candidates_interact=True)
    full = network(models, tokens, mask)["score"][:, 2:4]
    assert not torch.allclose(full, network(models[2:4], tokens, mask)["score"], atol=1e-4)


def test_the_transformer_is_transformers_own_without_positions():
    network = make()
    assert type(network.encoder).__module__.startswith("transformers.models.bert")
    assert not any("position" in name for name, _ in network.named_parameters())
