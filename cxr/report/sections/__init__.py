"""The report's sections: each reads what its stages left and returns the names that its template uses.

A section picks and joins numbers of other stages and computes none anew. It returns numbers, names and verdicts of a
closed set; every sentence stands in cxr/report/templates.
"""
