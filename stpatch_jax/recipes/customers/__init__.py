"""Customers: who will buy again, how often and for how much; with data and judge of its own."""

from stpatch_jax.recipes.customers.data import Customers, CustomersConfig
from stpatch_jax.recipes.customers.judging import CustomersJudge
from stpatch_jax.recipes.customers.recipe import customers

__all__ = ["Customers", "CustomersConfig", "CustomersJudge", "customers"]
