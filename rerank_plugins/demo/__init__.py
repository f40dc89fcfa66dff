"""The demo: questions about Python, answered from its documentation.

FAISS over a bi-encoder finds 50 passages for a question and cross-encoders rerank them, in
LangChain or LlamaIndex. The corpus is frozen: ``data/`` holds it in BEIR's form.
"""
