"""Data sets that deliver batches. The order of the images is a function of seed and epoch alone."""

from corridor_exp.datasets.base import Dataset
from corridor_exp.datasets.cifar_mnist import cifar10, cifar100, fashion_mnist, mnist
from corridor_exp.datasets.digits import digits
from corridor_exp.datasets.folder import imagefolder
from corridor_exp.datasets.synthetic import matrix_factorisation, quadratic
from corridor_exp.datasets.table import breast_cancer, libsvm

__all__ = [
    "Dataset",
    "breast_cancer",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "imagefolder",
    "libsvm",
    "matrix_factorisation",
    "mnist",
    "quadratic",
]
