"""Both rankers: invariances, the prior, scoring in chunks, and learning."""

import numpy as np
import pytest
import torch

from thesis_rec.thesis.rankers import CrossAttentionRanker, SimilarityTransformer, build_ranker

NAMES = ("cross_attention", "similarity_transformer")


def make(name, seed=0, trained=True, **arguments):
    torch.manual_seed(seed)
    network = build_ranker(name, model_dim=5, token_dim=7, width=16, n_layers=2, n_heads=2, rank=4, **arguments).eval()
    if trained:
        # The heads start at zero, where every network is the prior and the tests would see nothing.
        for parameter in network.heads.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def batch(seed=1, n_models=6, n_tokens=5):
    generator = torch.Generator().manual_seed(seed)
    models = torch.randn(3, n_models, 5, generator=generator)
    tokens = torch.randn(3, n_tokens, 7, generator=generator)
    mask = torch.ones(3, n_tokens, dtype=torch.bool)
    mask[1, 3:] = False
    return models, tokens, mask, torch.randn(3, n_models, generator=generator)


def close(one, other):
    for name in ("score", "value", "log_std"):
        torch.testing.assert_close(one[name], other[name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
class TestRankers:
    def test_shapes(self, name):
        out = make(name)(*batch())
        assert {key: tuple(value.shape) for key, value in out.items()} == {
            "score": (3, 6),
            "value": (3, 6),
            "log_std": (3, 6),
        }

    def test_the_order_of_tokens_does_not_matter(self, name):
        models, tokens, mask, prior = batch()
        network, order = make(name), torch.tensor([4, 2, 0, 1, 3])
        close(network(models, tokens, mask, prior), network(models, tokens[:, order], mask[:, order], prior))

    def test_the_order_of_models_is_the_order_of_scores(self, name):
        models, tokens, mask, prior = batch()
        network, order = make(name), torch.tensor([5, 0, 3, 1, 2, 4])
        out = network(models, tokens, mask, prior)
        close(
            {key: value[:, order] for key, value in out.items()},
            network(models[:, order], tokens, mask, prior[:, order]),
        )

    def test_a_score_does_not_depend_on_the_other_candidates(self, name):
        models, tokens, mask, prior = batch()
        network = make(name)
        out = network(models, tokens, mask, prior)
        close({key: value[:, 2:4] for key, value in out.items()}, network(models[:, 2:4], tokens, mask, prior[:, 2:4]))

    def test_padding_is_invisible(self, name):
        models, tokens, mask, prior = batch()
        network = make(name)
        out = network(models, tokens, mask, prior)
        noise = torch.where(mask[..., None], tokens, torch.full_like(tokens, 50.0))
        close(out, network(models, noise, mask, prior))
        close(
            {key: value[1:2] for key, value in out.items()},
            network(models[1:2], tokens[1:2, :3], mask[1:2, :3], prior[1:2]),
        )

    def test_models_and_tokens_both_matter(self, name):
        models, tokens, mask, prior = batch()
        network = make(name)
        score = network(models, tokens, mask, prior)["score"]
        assert not torch.allclose(score, network(models + 1, tokens, mask, prior)["score"], atol=1e-3)
        other = network(models, tokens.flip(0), mask, prior)["score"] - score
        # Not merely a shift of all models of a dataset, which would not change any ranking.
        assert (other[0] - other[0].mean()).abs().max() > 1e-3

    def test_before_training_the_score_is_the_prior(self, name):
        models, tokens, mask, prior = batch()
        network = make(name, trained=False)
        torch.testing.assert_close(network(models, tokens, mask, prior)["score"], prior)
        assert (network(models, tokens, mask, None)["score"] == 0).all()

    def test_models_shared_by_a_batch_are_projected_once_with_equal_result(self, name):
        models, tokens, mask, prior = batch()
        network = make(name)
        close(
            network(models[:1].expand(3, -1, -1), tokens, mask, prior),
            network(models[:1].repeat(3, 1, 1), tokens, mask, prior),
        )

    def test_it_learns_which_models_suit_which_tokens(self, name):
        torch.manual_seed(0)
        network = make(name, trained=False, dropout=0.0).train()
        models = torch.randn(12, 5)
        tokens = torch.randn(40, 3, 7)
        truth = torch.einsum("me,be->bm", models, tokens.mean(1)[:, :5])
        truth = (truth - truth.mean(1, keepdim=True)) / truth.std(1, keepdim=True)
        mask = torch.ones(40, 3, dtype=torch.bool)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(60):
            loss = (network(models.expand(40, -1, -1), tokens, mask)["score"] - truth).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.4  # the prior alone has 1


def test_interacting_candidates_do_see_each_other():
    models, tokens, mask, prior = batch()
    network = make("similarity_transformer", candidates_interact=True)
    full = network(models, tokens, mask, prior)["score"][:, 2:4]
    assert not torch.allclose(full, network(models[:, 2:4], tokens, mask, prior[:, 2:4])["score"], atol=1e-4)


def test_the_transformer_is_transformers_own_without_positions():
    network = make("similarity_transformer")
    assert type(network.encoder).__module__.startswith("transformers.models.bert")
    assert not any("position" in name for name, _ in network.named_parameters())


def test_chunks_give_what_one_pass_gives():
    models, tokens, mask, prior = batch(n_models=23)
    network = make("cross_attention")
    whole = network(models[:1], tokens[:1], mask[:1], prior[:1])
    parts = list(network.score_chunks(models[0].numpy(), tokens[:1], mask[:1], prior[0].numpy(), chunk=5))
    assert [len(part["score"]) for part in parts] == [5, 5, 5, 5, 3]
    close({key: value[0] for key, value in whole.items()}, {k: torch.cat([p[k] for p in parts]) for k in whole})


@pytest.mark.parametrize("k", [1, 7, 23, 40])
def test_top_k_is_exact(k):
    models, tokens, mask, prior = batch(n_models=23)
    models[0, 9:13] = models[0, 2]  # ties within and across chunks
    prior[0, 9:13] = prior[0, 2]
    network = make("cross_attention")
    score, row = network.top_k(models[0], tokens[:1], mask[:1], prior[0], k=k, chunk=4)
    full = torch.cat([p["score"] for p in network.score_chunks(models[0], tokens[:1], mask[:1], prior[0], chunk=4)])
    expected = np.argsort(-full.numpy(), kind="stable")[:k]
    assert row.tolist() == expected.tolist()
    torch.testing.assert_close(score, full[expected])


def test_top_k_reads_a_memory_mapped_file(tmp_path):
    models, tokens, mask, _ = batch(n_models=50)
    np.save(tmp_path / "models.npy", models[0].numpy())
    mapped = np.load(tmp_path / "models.npy", mmap_mode="r")
    network = make("cross_attention")
    assert torch.equal(
        network.top_k(mapped, tokens[:1], mask[:1], k=5, chunk=8)[1],
        network.top_k(models[0], tokens[:1], mask[:1], k=5, chunk=50)[1],
    )


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="similarity_transformer or cross_attention"):
        build_ranker("perceptron")


def test_the_classes_are_what_their_names_say():
    assert isinstance(make("cross_attention"), CrossAttentionRanker)
    assert isinstance(make("similarity_transformer"), SimilarityTransformer)
