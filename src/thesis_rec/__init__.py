"""Which pre-trained model should I use for my images and my hardware?"""

__version__ = "0.1.0"
