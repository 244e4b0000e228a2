"""The catalogue: the paper's fifteen data sets and the bundled digits. `datasets/*.md` say the same in prose."""

from __future__ import annotations

from dataclasses import replace

from set_cli.data.card import Card, Digest, Form, Format, SourceFile, Split

MADE = "https://raw.githubusercontent.com/mgermain/MADE/514849eb9451311c02049f9e2d9a17fac589996a/datasets/"
DEBD = "https://raw.githubusercontent.com/arranger1044/DEBD/850908666388f1b1c766a304b37dae14613f1e51/datasets/"
LAROCHELLE = "http://www.cs.toronto.edu/~larocheh/public/datasets/"
LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/"
MARLIN = "https://people.cs.umass.edu/~marlin/data/"
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

UCI_SUITE = (
    "Larochelle and Murray, The Neural Autoregressive Distribution Estimator, AISTATS 2011 (the split); "
    "Dua and Graff, UCI Machine Learning Repository (the data)"
)
SILHOUETTES = "Marlin, Swersky, Chen and de Freitas, Inductive Principles for RBM Learning, AISTATS 2010"
MNIST = "LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 1998"


def _made(name: str, digest: Digest | None) -> Form:
    """The MADE repository's npz: train_data, valid_data and test_data as float32."""
    return Form(
        "made", "MADE (Germain et al. 2015)", (SourceFile(f"{name}.npz", "all", (f"{MADE}{name}.npz",), digest),)
    )


def _debd(name: str, *git_sha1: str) -> Form:
    """The DEBD repository's comma-separated text, one file per split."""
    files = tuple(
        SourceFile(f"{name}.{split}.data", split, (f"{DEBD}{name}/{name}.{split}.data",), Digest("git-sha1", value))
        for split, value in zip(SPLITS, git_sha1, strict=True)
    )
    return Form("debd", "DEBD (Discrete Experiments Benchmark Data)", files)


def _larochelle(form: Format, pattern: str, *, labels: bool) -> Form:
    """The suite's first publication; no checksums are known, so these are taken in by import only."""
    files = tuple(
        SourceFile(pattern.rpartition("/")[2].format(split), split, (LAROCHELLE + pattern.format(split),))
        for split in SPLITS
    )
    return Form(form, "H. Larochelle (original suite)", files, labels)


def _idx(bases: tuple[str, ...], contents: tuple[Digest | None, ...], packed: tuple[Digest, ...]) -> Form:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    files = tuple(
        SourceFile(name, "test" if name.startswith("t10k") else "train", tuple(f"{b}{name}.gz" for b in bases), c, p)
        for name, c, p in zip(names, contents, packed, strict=True)
    )
    return Form("idx", bases[0].split("/")[2], files, labels=True)


def _silhouettes(side: int, digest: Digest) -> Form:
    name = f"caltech101_silhouettes_{side}_split1.mat"
    return Form("mat", "B. Marlin", (SourceFile(name, "all", (MARLIN + name,), digest),), labels=True)


_CIFAR_SIZE = 30_730_000
_CIFAR_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}

_MNIST = Card(
    name="mnist",
    title="MNIST handwritten digits",
    domain="digits",
    kind="bounded",
    features=784,
    classes=10,
    shape=(28, 28),
    maximum=255,
    train=60_000,
    valid=0,
    test=10_000,
    paper=(60_000, 10_000),
    models=("mlp",),
    mean=33.3184,
    per_class=(5_421, 6_742),
    homepage="http://yann.lecun.com/exdb/mnist/",
    licence="none stated; its authors' usual research terms",
    citation=MNIST,
    forms=(
        _idx(
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "http://yann.lecun.com/exdb/mnist/",
            ),
            (
                Digest("sha256", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
                Digest("sha256", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
                Digest("sha256", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
                Digest("sha256", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
            ),
            (
                Digest("sha256", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
                Digest("sha256", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
                Digest("sha256", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
                Digest("sha256", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
            ),
        ),
    ),
)

_CARDS = (
    Card(
        name="adult",
        title="ADULT: census records, income above 50,000 dollars or not",
        domain="households",
        kind="binary",
        features=123,
        classes=2,
        train=5_000,
        valid=1_414,
        test=26_147,
        paper=(5_000, 26_147),
        models=("rbm",),
        mean=0.1127,
        homepage="https://archive.ics.uci.edu/dataset/2/adult",
        licence="CC BY 4.0 (UCI)",
        citation=UCI_SUITE,
        forms=(
            _made("adult", Digest("git-sha1", "cf506ae6b4a4b818a92a6c951d334e61eeb27d81")),
            _debd(
                "adult",
                "101be82a729802294177e86594095fa14fc5d5ca",
                "1d1f0853a75e2db49968c3380d5db92692c7d26a",
                "ca1a6642228f20971897abba6fb5ddc620bc80a3",
            ),
            _larochelle("svmlight", "adult/a5a_{}.libsvm", labels=True),
        ),
        notes=("The source repeats rows: 3,326 test rows also occur among the training rows.",),
    ),
    Card(
        name="connect4",
        title="Connect-4: positions after eight plies, won, drawn or lost",
        domain="games",
        kind="binary",
        features=126,
        classes=3,
        train=16_000,
        valid=4_000,
        test=47_557,
        paper=(16_000, 47_557),
        models=("rbm",),
        mean=0.3333,
        homepage="https://archive.ics.uci.edu/dataset/26/connect+4",
        licence="CC BY 4.0 (UCI)",
        citation=UCI_SUITE,
        forms=(
            _made("connect4", Digest("git-sha1", "4685318ab6aabc98eec09b93ad4fa5debc24ec93")),
            _debd(
                "connect4",
                "93b42c60aeca67df76fd821ef0ae5b8ceb8b8b01",
                "71f641a9b87507bb3e9f930c455748f118a6c9e0",
                "088e6da63a6e9d5cab1af67518fd6b202cef6f51",
            ),
            _larochelle("svmlight", "connect-4/connect-4_{}.libsvm", labels=True),
        ),
    ),
    Card(
        name="dna",
        title="DNA: splice junctions in gene sequences",
        domain="genetics",
        kind="binary",
        features=180,
        classes=3,
        train=1_400,
        valid=600,
        test=1_186,
        paper=(1_400, 1_186),
        models=("rbm",),
        mean=0.2537,
        homepage="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#dna",
        licence="CC BY 4.0 (UCI, splice-junction gene sequences)",
        citation=UCI_SUITE,
        forms=(
            _made(
                "dna", Digest("sha256", "df2d2e7ce1469edfead15e41024e108d64f1b4633cfecfc40ef7107cc22c895c", 2_295_252)
            ),
            _larochelle("svmlight", "dna/dna_scale_{}.libsvm", labels=True),
            Form(
                "svmlight",
                "LIBSVM",
                (
                    SourceFile("dna.scale.tr", "train", (f"{LIBSVM}multiclass/dna.scale.tr",)),
                    SourceFile("dna.scale.val", "valid", (f"{LIBSVM}multiclass/dna.scale.val",)),
                    SourceFile("dna.scale.t", "test", (f"{LIBSVM}multiclass/dna.scale.t",)),
                ),
                labels=True,
            ),
        ),
        notes=(
            "DEBD's dna has the same rows in another split (1,600/400/1,186) and is refused.",
            "62 test rows also occur among the training rows.",
        ),
    ),
    Card(
        name="mushrooms",
        title="Mushrooms: edible or poisonous",
        domain="biology",
        kind="binary",
        features=112,
        classes=2,
        train=2_000,
        valid=500,
        test=5_624,
        paper=(2_000, 5_624),
        models=("rbm",),
        mean=0.1875,
        homepage="https://archive.ics.uci.edu/dataset/73/mushroom",
        licence="CC BY 4.0 (UCI)",
        citation=UCI_SUITE,
        forms=(
            _made(
                "mushrooms",
                Digest("sha256", "4130f1defa3033911fe746a3ab1bb22b0c812bb29e68391a0fbc2d65bab6ae74", 3_640_884),
            ),
            _debd(
                "mushrooms",
                "563ba3a28eb60c63fc39b46134d5914738e7a09e",
                "9f125c50d027c89cc56a704c5b3c4db6bb165893",
                "1372a949dbcf6bc62e19885d59dac25f8f88477f",
            ),
            _larochelle("svmlight", "mushrooms/mushrooms_{}.libsvm", labels=True),
        ),
    ),
    Card(
        name="nips",
        title="NIPS-0-12: words in papers of the NIPS conferences 0 to 12",
        domain="documents",
        kind="binary",
        features=500,
        classes=0,
        train=400,
        valid=100,
        test=1_240,
        paper=(400, 1_240),
        models=("rbm",),
        mean=0.3678,
        homepage="https://cs.nyu.edu/~roweis/data.html",
        licence="none stated; its authors' usual research terms",
        citation="Larochelle and Murray, AISTATS 2011 (the split); S. Roweis (the data)",
        forms=(
            _made(
                "nips", Digest("sha256", "dbf3b659a49670957c0851971bd51ff952a657f010581d12f6c1e2dca8907b20", 3_481_332)
            ),
            _debd(
                "nips",
                "583d8a180c2851793724e6d93f701966a079c817",
                "5e0137e210086a03b342a692705bd806b90f4c3c",
                "8787df72842c24be8af223ddd773998c5095b65f",
            ),
            _larochelle("amat", "nips-0-12/nips-0-12_all_shuffled_bidon_target_{}.amat", labels=False),
        ),
        notes=("The .amat files end in a column of dummy labels, which is left out.",),
    ),
    Card(
        name="ocr_letters",
        title="OCR-letters: handwritten letters of whole words, 16x8 pixels",
        domain="letters",
        kind="binary",
        features=128,
        classes=26,
        shape=(16, 8),
        train=32_152,
        valid=10_000,
        test=10_000,
        paper=(32_152, 10_000),
        models=("rbm",),
        mean=0.2197,
        homepage="http://ai.stanford.edu/~btaskar/ocr/",
        licence="none stated; its authors' usual research terms",
        citation="Taskar, Guestrin and Koller, Max-margin Markov networks, 2003; Larochelle and Murray 2011 (split)",
        forms=(
            _made("ocr_letters", Digest("git-sha1", "b472383a2ddeddbc87b4e3019a3bd47736bddb37")),
            _debd(
                "ocr_letters",
                "5deb8ce789bfb4f94849b1b5f57e7c841ec9f538",
                "ebbd09fef2383f0b507ee4addd17f0c5f3b4313b",
                "25b4cdcc1b5fb8602a4baacf7df16bd15947565c",
            ),
            Form(
                "letters",
                "B. Taskar (original)",
                (
                    SourceFile(
                        "letter.data",
                        "all",
                        (
                            "http://ai.stanford.edu/~btaskar/ocr/letter.data.gz",
                            "http://info.usherbrooke.ca/hlarochelle/public/letter.data.gz",
                        ),
                    ),
                ),
                labels=True,
                note="the rows in file order, shuffled as Python 2's random.seed(12345); random.shuffle(rows) does, "
                "are cut at 32,152 and 42,152",
            ),
        ),
        notes=("623 test rows also occur among the training rows.",),
    ),
    Card(
        name="rcv1",
        title="RCV1: words in newswire stories",
        domain="documents",
        kind="binary",
        features=150,
        classes=2,
        train=40_000,
        valid=10_000,
        test=150_000,
        paper=(40_000, 150_000),
        models=("rbm",),
        homepage="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary.html#rcv1.binary",
        licence="none stated; research use",
        citation="Lewis, Yang, Rose and Li, RCV1, JMLR 2004; Larochelle and Murray, AISTATS 2011 (words, split)",
        forms=(
            _debd(
                "rcv1",
                "25ee49d9df5566669d5994db5acf32844d8f4f7b",
                "890d4558bcb738690ef775a4fbdeb7ef9511d377",
                "0d9b096f4b8a62dec4634f3f87a73e292b5cffc8",
            ),
            Form(
                "made",
                "MADE (Germain et al. 2015)",
                (
                    SourceFile(
                        "rcv1.npz", "all", ("https://github.com/mgermain/MADE/releases/download/ICML2015/rcv1.npz",)
                    ),
                ),
            ),
            _larochelle("amat", "rcv1/rcv1_all_subset.binary_{}_voc_150.amat", labels=True),
        ),
    ),
    Card(
        name="web",
        title="Web: words on web pages, of one category or not",
        domain="internet",
        kind="binary",
        features=300,
        classes=2,
        train=14_000,
        valid=3_188,
        test=32_561,
        paper=(14_000, 32_561),
        models=("rbm",),
        mean=0.0389,
        homepage="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary.html#w6a",
        licence="none stated; research use",
        citation="Platt, Fast training of SVMs using sequential minimal optimization, 1998; Larochelle and Murray 2011",
        forms=(
            _made("web", Digest("git-sha1", "a565424fc5782cb99d79788618cd6c332440a8a1")),
            Form(
                "svmlight",
                "LIBSVM",
                (
                    SourceFile(
                        "w6a",
                        "all",
                        (f"{LIBSVM}binary/w6a",),
                        Digest("sha256", "0db197939896da01e6677f8dc39fe824dffcb75c185bd681bb870d33c93c8f82", 1_202_812),
                    ),
                    SourceFile(
                        "w6a.t",
                        "test",
                        (f"{LIBSVM}binary/w6a.t",),
                        Digest("sha256", "8dea4842824392911f095fbc8b5aa764bb173a12bdc43cc07283ba13854d72c6", 2_275_426),
                    ),
                ),
                labels=True,
                note="w6a in file order is cut at 14,000: where the suite cuts it is not known",
            ),
            _larochelle("svmlight", "web/w6a_{}.libsvm", labels=True),
        ),
        notes=("The source repeats many rows: 8,826 test rows also occur among the training rows.",),
    ),
    Card(
        name="caltech16",
        title="CalTech 101 Silhouettes, 16x16",
        domain="images",
        kind="binary",
        features=256,
        classes=101,
        shape=(16, 16),
        train=4_082,
        valid=2_257,
        test=2_302,
        paper=(4_082, 2_302),
        models=("rbm",),
        homepage=MARLIN,
        licence="none stated; its authors' usual research terms",
        citation=SILHOUETTES,
        forms=(_silhouettes(16, Digest("md5", "3baf9e2c023aa4a187e1d1b92b5a734a")),),
        notes=("An object is 0 and the background 1. Upstream's rows are column by column; they are read row by row.",),
    ),
    Card(
        name="caltech28",
        title="CalTech 101 Silhouettes, 28x28",
        domain="images",
        kind="binary",
        features=784,
        classes=101,
        shape=(28, 28),
        train=4_100,
        valid=2_264,
        test=2_307,
        paper=(4_100, 2_307),
        models=("rbm",),
        mean=0.5511,
        per_class=(19, 100),
        homepage=MARLIN,
        licence="none stated; its authors' usual research terms",
        citation=SILHOUETTES,
        forms=(_silhouettes(28, Digest("md5", "4483e9c14b188fd09937f9ea6f9ea777", 872_124)),),
        notes=("An object is 0 and the background 1. Upstream's rows are column by column; they are read row by row.",),
    ),
    replace(
        _MNIST,
        name="mnist_binary",
        title="MNIST handwritten digits, binarised",
        kind="binary",
        maximum=1,
        models=("rbm",),
        mean=0.1307,
        folder_name="mnist",
        notes=(
            "Reads the files of mnist. Every pixel becomes 1 with its intensity as the probability, drawn once with a "
            "fixed seed (dataset.binarize=sample), or where it is 128 or more (dataset.binarize=threshold). How the "
            "paper binarised is not stated.",
        ),
    ),
    _MNIST,
    Card(
        name="cifar10",
        title="CIFAR-10 tiny images, binary version",
        domain="images",
        kind="bounded",
        features=3_072,
        classes=10,
        shape=(3, 32, 32),
        maximum=255,
        train=50_000,
        valid=0,
        test=10_000,
        paper=(50_000, 10_000),
        models=("mlp", "cnn"),
        mean=120.7076,
        per_class=(5_000, 5_000),
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; its authors' usual research terms",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        forms=(
            Form(
                "cifar",
                "A. Krizhevsky",
                tuple(
                    SourceFile(
                        f"cifar-10-batches-bin/{name}",
                        "test" if name == "test_batch.bin" else "train",
                        content=Digest("md5", md5, _CIFAR_SIZE),
                    )
                    for name, md5 in _CIFAR_MD5.items()
                ),
                labels=True,
                archive=SourceFile(
                    "cifar-10-binary.tar.gz",
                    "all",
                    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                    Digest("sha256", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171),
                ),
                note="read from the archive, or from its members beside it; the Python version is a pickle: never read",
            ),
        ),
    ),
    Card(
        name="higgs",
        title="HIGGS: collisions with and without a Higgs boson (simulated)",
        domain="particle physics",
        kind="real",
        features=28,
        classes=2,
        train=10_500_000,
        valid=0,
        test=500_000,
        paper=(10_500_000, 500_000),
        models=("mlp",),
        homepage="https://archive.ics.uci.edu/dataset/280/higgs",
        licence="CC BY 4.0 (UCI)",
        citation="Baldi, Sadowski and Whiteson, Searching for exotic particles with deep learning, Nature Comm. 2014",
        forms=(
            Form(
                "higgs",
                "UCI Machine Learning Repository",
                (
                    SourceFile(
                        "HIGGS.csv",
                        "all",
                        ("https://archive.ics.uci.edu/ml/machine-learning-databases/00280/HIGGS.csv.gz",),
                        packed=Digest(
                            "sha256",
                            "ea302c18164d4e3d916a1e2e83a9a8d07069fa6ebc7771e4c0540d54e593b698",
                            2_816_407_858,
                        ),
                    ),
                ),
                labels=True,
                note="the last 500,000 rows are the test rows; a file with other than 11,000,000 rows has none",
            ),
        ),
        notes=(
            "Converted once to a memory-mapped array beside the file (1.2 GB, float32), which is what later runs read.",
        ),
    ),
    Card(
        name="fashion_mnist",
        title="Fashion-MNIST: articles of clothing",
        domain="fashion products",
        kind="bounded",
        features=784,
        classes=10,
        shape=(28, 28),
        maximum=255,
        train=60_000,
        valid=0,
        test=10_000,
        paper=(60_000, 10_000),
        models=("mlp",),
        per_class=(6_000, 6_000),
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv 1708.07747, 2017",
        forms=(
            _idx(
                (
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                ),
                (None, None, None, None),
                (
                    Digest("sha256", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
                    Digest("md5", "25c81989df183df01b3e8a0aad5dffbe"),
                    Digest("md5", "bef4ecab320f06d8554ea6380940ec79"),
                    Digest("md5", "bb300cfdad3c16e7a12a480ee83cd310"),
                ),
            ),
        ),
        notes=("Only the checksums of the published .gz files are known, so these are read as they are published.",),
    ),
    Card(
        name="digits",
        title="Optical recognition of handwritten digits (UCI), as bundled with scikit-learn",
        domain="digits",
        kind="bounded",
        features=64,
        classes=10,
        shape=(8, 8),
        maximum=16,
        train=1_438,
        valid=0,
        test=359,
        mean=4.8929,
        per_class=(127, 161),
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        licence="CC BY 4.0 (UCI)",
        citation="Alpaydin and Kaynak, Cascading classifiers, Kybernetika 1998",
        bundled=True,
        notes=("Every fifth row is a test row: a cut at the end would test on other writers.",),
    ),
)

CATALOG: dict[str, Card] = {card.name: card for card in _CARDS}
