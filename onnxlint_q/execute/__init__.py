"""RUN: samples, sessions, the streaming pass, and variants of a model beside the float one. Knows no rules."""
