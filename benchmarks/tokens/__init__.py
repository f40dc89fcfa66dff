"""Text encoders: exactness and speed, ours against Hugging Face's and four others."""
