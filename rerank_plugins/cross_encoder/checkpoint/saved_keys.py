"""What is read from which file of a model folder: the one list that decides about each key.

`saved_settings.py` refuses what is not here, and docs/saved_models.md is made from it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["done", "harmless", "refused"]


class SavedKey(NamedTuple):
    """One key of one file. ``why`` says what is done with it, or why nothing has to be."""

    file: str
    key: str
    verdict: Verdict
    why: str


_CONFIG = "config.json"
_CONFIG_ST = "config_sentence_transformers.json"
_MODULES = "modules.json"
_SENTENCE_BERT = "sentence_bert_config.json"
_TOKENIZER = "tokenizer_config.json"

# Keys with which a BERT, ELECTRA or DistilBERT config does not change what is computed: sizes are
# those of the tensors, and dropout is for training.
BERT_HARMLESS = frozenset(
    """_name_or_path _num_labels add_final_pooling_layer architectures attention_dropout
    attention_probs_dropout_prob bad_words_ids bos_token_id classifier_dropout cls_token_id
    directionality do_lower_case dim dropout dtype embedding_size eos_token_id eos_token_ids
    finetuning_task gradient_checkpointing hidden_dim hidden_dropout_prob hidden_size id2label
    initializer_range intermediate_size label2id language mask_token_id max_position_embeddings
    model_type name num_hidden_layers n_layers num_labels output_attentions output_hidden_states
    output_past pad_token_id pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_type problem_type qa_dropout sbert_ce_default_activation_function
    sentence_transformers seq_classif_dropout sep_token_id sinusoidal_pos_embds summary_activation
    summary_last_dropout summary_type summary_use_proj tie_weights_ tie_word_embeddings
    tokenizer_class torch_dtype trainable transformers_version type_vocab_size use_cache
    vocab_size xla_device chunk_size_feed_forward bert_model num_attention_heads n_heads
    hidden_act activation layer_norm_eps use_return_dict
    do_sample diversity_penalty early_stopping encoder_no_repeat_ngram_size decoder_start_token_id
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty
    max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    output_scores prefix remove_invalid_values repetition_penalty return_dict_in_generate
    suppress_tokens begin_suppress_tokens task_specific_params temperature tf_legacy_loss top_k
    top_p typical_p _attn_implementation_autoset""".split()
)
# Keys that ask for nothing at these values; at another one the model goes the general way.
BERT_NEUTRAL: dict[str, tuple[object, ...]] = {
    "add_cross_attention": (False, None),
    "auto_map": (None, {}),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "position_embedding_type": ("absolute", None),
    "pruned_heads": ({}, [], None),
    "quantization_config": (None,),
    "return_dict": (True, None),
    "torchscript": (False, None),
    "use_bfloat16": (False, None),
}

KEYS = (
    SavedKey(_CONFIG, "architectures, model_type", "done", "choose the forward pass"),
    SavedKey(
        _CONFIG,
        "num_attention_heads, hidden_act, layer_norm_eps, num_hidden_layers",
        "done",
        "the shape of BERT, ELECTRA and DistilBERT; all other sizes are those of the tensors",
    ),
    SavedKey(
        _CONFIG,
        ", ".join(sorted(BERT_NEUTRAL)),
        "done",
        "a BERT that asks for one of these is computed by transformers",
    ),
    SavedKey(
        _CONFIG,
        "any other key",
        "done",
        "dropout, names and training: harmless for BERT; a key that is not known to be so sends "
        "the model to transformers, which reads it, as it does for every other architecture",
    ),
    SavedKey(_CONFIG, "sentence_transformers.activation_fn", "done", "the unit of the scores"),
    SavedKey(_CONFIG, "sentence_transformers.version", "harmless", "names the writer"),
    SavedKey(_CONFIG, "sbert_ce_default_activation_function", "done", "its older name"),
    SavedKey(
        _CONFIG,
        "quantization_config",
        "refused",
        "save the model again in float16, bfloat16 or float32",
    ),
    SavedKey(
        "weights",
        "any tensor of fewer than 16 bits or of integers",
        "refused",
        "save the model again in float16, bfloat16 or float32; integer position_ids are harmless",
    ),
    SavedKey(_MODULES, "type", "done", "one Transformer; any module after it is refused"),
    SavedKey(_MODULES, "path", "done", "the sub-folder that holds the model"),
    SavedKey(_MODULES, "idx, name", "harmless", "there is one module"),
    SavedKey(_MODULES, "kwargs", "refused", "score the model with sentence-transformers"),
    SavedKey(_CONFIG_ST, "model_type", "done", "another type than CrossEncoder: not read further"),
    SavedKey(_CONFIG_ST, "prompts, default_prompt_name", "done", "goes before every query"),
    SavedKey(_CONFIG_ST, "activation_fn", "done", "wins over that of config.json"),
    SavedKey(_CONFIG_ST, "__version__, requirements", "harmless", "name the writer"),
    SavedKey(_CONFIG_ST, "similarity_fn_name, truncate_dim", "harmless", "are for embeddings"),
    SavedKey(
        _CONFIG_ST,
        "keep_in_fp32_modules",
        "refused",
        "unless empty: remove it, and use dtype='float32'",
    ),
    SavedKey(
        _SENTENCE_BERT,
        "transformer_task",
        "done",
        "sequence-classification; a task that generates or embeds is refused",
    ),
    SavedKey(_SENTENCE_BERT, "max_seq_length", "done", "the tokens of a pair"),
    SavedKey(_SENTENCE_BERT, "do_lower_case", "done", "texts are lower-cased first"),
    SavedKey(_SENTENCE_BERT, "modality_config", "done", "says whether a chat template is used"),
    SavedKey(
        _SENTENCE_BERT,
        "processing_kwargs",
        "done",
        "text.max_length, and chat_template for the template; others are refused",
    ),
    SavedKey(
        _SENTENCE_BERT,
        "module_output_name, unpad_inputs, query_length, document_length, query_expansion",
        "harmless",
        "are not read for pairs",
    ),
    SavedKey(
        _SENTENCE_BERT,
        "model_kwargs, processor_kwargs, config_kwargs, model_args, tokenizer_args, config_args, "
        "tokenizer_name_or_path",
        "refused",
        "unless empty: apply them and save the model again",
    ),
    SavedKey(_TOKENIZER, "model_max_length", "done", "at most the positions of the model"),
    SavedKey(_TOKENIZER, "model_input_names", "done", "token types only where they are named"),
    SavedKey(
        _TOKENIZER,
        "chat_template (and *.jinja)",
        "done",
        "each pair is rendered through it; one that cannot carry a pair is refused",
    ),
    SavedKey(_TOKENIZER, "truncation_side", "refused", "unless 'right'"),
    SavedKey(_TOKENIZER, "any other key", "done", "transformers builds the tokenizer"),
    SavedKey(
        "adapter_config.json",
        "all",
        "done",
        "applied by peft where it is installed (`pip install peft`), else refused",
    ),
    SavedKey("*.onnx, *.md, generation_config.json and others", "all", "harmless", "not read"),
)
