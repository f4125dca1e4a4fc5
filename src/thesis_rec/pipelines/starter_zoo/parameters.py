"""Parameters of the pipeline ``starter_zoo``, checked before anything runs."""

from thesis_rec.starter.settings import ZooSettings


class StarterZooParameters(ZooSettings):
    """All knobs of ``params:starter_zoo``; see ``conf/base/parameters/starter_zoo.yml``."""

    strict: bool = False
