"""Attacks of the Adversarial Robustness Toolbox (https://github.com/Trusted-AI/adversarial-robustness-toolbox)."""

import numpy
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier

import arena
from arena.toolbox import Clipped


def generate(attack, model, x, y, probabilities=False, start=None, **options):
    """What an attack of the toolbox makes of the images x of labels y; it sees probabilities, or logits."""
    device = "gpu" if x.is_cuda else "cpu"
    shape, loss = tuple(x.shape[1:]), torch.nn.CrossEntropyLoss()
    inside = torch.nn.Sequential(Clipped(model))  # some ask about images outside the box
    if probabilities:
        inside.append(torch.nn.Softmax(1))
    classifier = PyTorchClassifier(inside, loss, shape, model.classes, clip_values=(0, 1), device_type=device)
    onehot = numpy.eye(model.classes, dtype=numpy.float32)[y.cpu().numpy()]
    begin = {} if start is None else {"x_adv_init": start.cpu().numpy()}
    return attack(classifier, verbose=False, **options).generate(x.cpu().numpy(), onehot, **begin)


class HopSkipJump(arena.PerSampleAttack):
    name, norm, access = "art-hop-skip-jump", "l2", "decision"

    def strike(self, model, x, y):
        for noise in torch.rand(50, *x.shape).to(x):  # the noise that it would draw itself has no seed
            if model(noise).argmax(1) != y:
                return generate(evasion.HopSkipJump, model, x, y, start=noise, max_iter=10, max_eval=500, init_eval=10)
        return x


class ZOO(arena.PerSampleAttack):
    name, norm, access = "art-zoo", "l2", "score"

    def strike(self, model, x, y):
        search = {"max_iter": 50, "binary_search_steps": 3, "learning_rate": 0.1}
        pixels = {"use_resize": False, "use_importance": False, "nb_parallel": 64}
        return generate(evasion.ZooAttack, model, x, y, **search, **pixels)


class SimBA(arena.PerSampleAttack):
    name, norm, access = "art-simba", "l2", "score"

    def strike(self, model, x, y):
        return generate(evasion.SimBA, model, x, y, probabilities=True, max_iter=2000, order="random", epsilon=0.2)


class DeepFool(arena.PerSampleAttack):
    name, norm, access = "art-deepfool", "l2", "gradient"

    def strike(self, model, x, y):
        return generate(evasion.DeepFool, model, x, y)


@arena.hookimpl
def register_attacks(register):
    for attack in (HopSkipJump, ZOO, SimBA, DeepFool):
        register(attack)
