"""The dashboard: server-rendered pages inside the user's own Django.

Pages read the models; each button is a POST to a thin view that calls one verb of the engine.
"""
