"""Networks, of torchvision's blocks."""

from corridor_exp.models.densenet import densenet121
from corridor_exp.models.mlp import linear, mlp
from corridor_exp.models.resnet import resnet18, resnet34, resnet50
from corridor_exp.models.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = ["densenet121", "linear", "mlp", "resnet18", "resnet34", "resnet50", "vgg11", "vgg13", "vgg16", "vgg19"]
