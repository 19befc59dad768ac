"""Networks made of torchvision's blocks, dm-haiku's ResNets, and models for small exact problems."""

from corridor_exp.models.densenet import densenet121
from corridor_exp.models.haiku import resnet18_haiku, resnet50_haiku
from corridor_exp.models.mlp import linear, mlp
from corridor_exp.models.problems import deep_linear, logistic, vector
from corridor_exp.models.resnet import resnet18, resnet20, resnet34, resnet50
from corridor_exp.models.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "deep_linear",
    "densenet121",
    "linear",
    "logistic",
    "mlp",
    "resnet18",
    "resnet18_haiku",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet50_haiku",
    "vector",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]
