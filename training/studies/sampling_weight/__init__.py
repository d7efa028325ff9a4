"""Do budgets of patches by electrons make better models than equal ones?"""
