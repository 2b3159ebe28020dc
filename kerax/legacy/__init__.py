"""What Keras keeps of its older interfaces."""

from kerax.legacy import saving as saving
