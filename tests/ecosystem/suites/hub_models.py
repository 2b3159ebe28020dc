"""Small models of KerasHub's, by name: the class, its arguments and one batch of inputs."""

import keras_hub
import numpy as np

M = keras_hub.models


def ids(rows=2, length=5, name="token_ids", mask="padding_mask", vocabulary=10):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, vocabulary, (rows, length)).astype("int32")
    return {name: tokens, mask: np.ones((rows, length), "int32")}


def segments(**kwargs):
    batch = ids(**kwargs)
    return batch | {"segment_ids": np.zeros_like(batch["token_ids"])}


def tokens_only(**kwargs):
    return {"token_ids": ids(**kwargs)["token_ids"]}


def two_sided(encoder="encoder", decoder="decoder", length=5):
    return {f"{side}_{key}": value for side in (encoder, decoder) for key, value in ids(length=length).items()}


def images(size=32, rows=2):
    return np.random.default_rng(0).uniform(size=(rows, size, size, 3)).astype("float32")


ENCODER = {"vocabulary_size": 10, "num_layers": 2, "num_heads": 2, "hidden_dim": 4, "intermediate_dim": 8}
DECODER = {"vocabulary_size": 10, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2, "hidden_dim": 16}
DECODER |= {"intermediate_dim": 8}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 64, 64],
    "stackwise_num_blocks": [1, 1, 1],
    "stackwise_num_strides": [1, 2, 2],
    "block_type": "basic_block",
}
VIT = {"patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 8}
CLIP_TEXT = {"vocabulary_size": 10, "embedding_dim": 8, "hidden_dim": 8, "num_layers": 2, "num_heads": 2}
CLIP_TEXT |= {"intermediate_dim": 16, "max_sequence_length": 5}
CLIP_VISION = VIT | {"intermediate_dim": 16, "image_shape": (16, 16, 3)}
SMOL = {
    "vocabulary_size": 10,
    "hidden_dim": 16,
    "intermediate_dim": 8,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "rope_layer_enabled_list": [True, False],
    "layer_types": ["attention"] * 2,
    "mlp_bias": False,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 16,
    "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0,
}
T5_GEMMA = {"vocabulary_size": 10, "query_pre_attn_scalar": 1.0} | {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "num_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "layer_types": ["full_attention"] * 2,
    }.items()
}


def resnet(**kwargs):
    return M.ResNetBackbone(**(RESNET | kwargs))


def sam():
    encoder = M.ViTDetBackbone(
        hidden_size=16,
        num_layers=2,
        intermediate_dim=64,
        num_heads=2,
        global_attention_layer_indices=[1],
        patch_size=16,
        num_output_channels=16,
        window_size=2,
        image_shape=(128, 128, 3),
    )
    prompts = keras_hub.layers.SAMPromptEncoder(
        hidden_size=16, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_channels=16
    )
    masks = keras_hub.layers.SAMMaskDecoder(
        num_layers=2,
        hidden_size=16,
        intermediate_dim=32,
        num_heads=2,
        embedding_dim=16,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=8,
    )
    return {"image_encoder": encoder, "prompt_encoder": prompts, "mask_decoder": masks}


def sam_inputs():
    return {
        "images": images(128),
        "points": np.ones((2, 1, 2), "float32"),
        "labels": np.ones((2, 1), "float32"),
        "boxes": np.ones((2, 1, 2, 2), "float32"),
        "masks": np.zeros((2, 0, 128, 128, 1), "float32"),
    }


def stable_diffusion():
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    vae = VAEBackbone([32, 32, 32, 32], [1, 1, 1, 1], [32, 32, 32, 32], [1, 1, 1, 1])
    texts = {"vocabulary_size": 20, "embedding_dim": 64, "hidden_dim": 64, "num_layers": 2, "num_heads": 2}
    texts |= {"intermediate_dim": 128, "max_sequence_length": 5}
    return {
        "mmdit_patch_size": 2,
        "mmdit_hidden_dim": 32,
        "mmdit_num_layers": 2,
        "mmdit_num_heads": 2,
        "mmdit_position_size": 4,
        "mmdit_qk_norm": None,
        "mmdit_dual_attention_indices": None,
        "vae": vae,
        "clip_l": M.CLIPTextEncoder(
            **texts, intermediate_activation="quick_gelu", intermediate_output_index=0, name="clip_l"
        ),
        "clip_g": M.CLIPTextEncoder(
            **texts, intermediate_activation="gelu", intermediate_output_index=0, name="clip_g"
        ),
        "image_shape": (32, 32, 3),
    }


def stable_diffusion_inputs():
    tokens = np.ones((2, 5), "int32")
    return {
        "images": images(32),
        "latents": np.ones((2, 4, 4, 16), "float32"),
        "clip_l_token_ids": tokens,
        "clip_l_negative_token_ids": tokens,
        "clip_g_token_ids": tokens,
        "clip_g_negative_token_ids": tokens,
        "num_steps": np.ones((2,), "int32"),
        "guidance_scale": np.ones((2,), "float32"),
    }


BACKBONES = {
    "AlbertBackbone": (lambda: ENCODER | {"embedding_dim": 4}, segments),
    "BartBackbone": (lambda: ENCODER, two_sided),
    "BertBackbone": (lambda: ENCODER, segments),
    "BloomBackbone": (lambda: ENCODER | {"hidden_dim": 8}, ids),
    "DebertaV3Backbone": (lambda: ENCODER | {"max_sequence_length": 5, "bucket_size": 2}, ids),
    "DistilBertBackbone": (lambda: ENCODER, ids),
    "ElectraBackbone": (
        lambda: {k: v for k, v in ENCODER.items() if k != "vocabulary_size"} | {"vocab_size": 10, "embedding_dim": 4},
        segments,
    ),
    "ESM2Backbone": (lambda: ENCODER | {"hidden_dim": 8}, tokens_only),
    "FNetBackbone": (
        lambda: {k: v for k, v in ENCODER.items() if k != "num_heads"},
        lambda: {k: v for k, v in segments().items() if k != "padding_mask"},
    ),
    "FalconBackbone": (
        lambda: {k: v for k, v in ENCODER.items() if k != "num_heads"} | {"num_attention_heads": 2},
        ids,
    ),
    "GPT2Backbone": (lambda: ENCODER, ids),
    "GPTNeoXBackbone": (lambda: ENCODER | {"hidden_dim": 16}, ids),
    "GemmaBackbone": (lambda: DECODER | {"head_dim": 4}, ids),
    "Gemma2Backbone": (
        lambda: (
            DECODER
            | {
                "head_dim": 4,
                "use_post_ffw_norm": True,
                "use_post_attention_norm": True,
                "use_sliding_window_attention": True,
            }
            | {"attention_logit_soft_cap": 50, "final_logit_soft_cap": 30, "sliding_window_size": 4}
        ),
        ids,
    ),
    "Gemma3Backbone": (lambda: DECODER | {"head_dim": 4, "image_size": 16, "sliding_window_size": 4}, ids),
    "GptOssBackbone": (lambda: DECODER | {"num_experts": 2, "sliding_window": 4}, ids),
    "Llama3Backbone": (lambda: DECODER, ids),
    "LlamaBackbone": (lambda: DECODER, ids),
    "MistralBackbone": (lambda: DECODER, ids),
    "MixtralBackbone": (lambda: DECODER | {"num_experts": 2}, ids),
    "OPTBackbone": (lambda: ENCODER, ids),
    "Phi3Backbone": (lambda: DECODER, ids),
    "QwenBackbone": (lambda: DECODER, ids),
    "Qwen3Backbone": (lambda: DECODER | {"head_dim": 4}, ids),
    "Qwen3MoeBackbone": (
        lambda: DECODER | {"head_dim": 4, "moe_intermediate_dim": 8, "num_experts": 2, "top_k": 1},
        ids,
    ),
    "QwenMoeBackbone": (
        lambda: (
            DECODER | {"moe_intermediate_dim": 8, "shared_expert_intermediate_dim": 8, "num_experts": 2, "top_k": 1}
        ),
        ids,
    ),
    "RWKV7Backbone": (
        lambda: (
            {"vocabulary_size": 10, "hidden_size": 16, "head_size": 8, "num_layers": 2, "intermediate_dim": 8}
            | {"gate_lora": 4, "mv_lora": 4, "aaa_lora": 4, "decay_lora": 4}
        ),
        lambda: ids(length=16),
    ),
    "RobertaBackbone": (lambda: ENCODER, ids),
    "RoformerV2Backbone": (
        lambda: ENCODER | {"head_size": 2},
        lambda: {k: v for k, v in segments().items() if k[:3] != "pad"},
    ),
    "SmolLM3Backbone": (lambda: SMOL, lambda: ids()),
    "T5Backbone": (lambda: ENCODER, two_sided),
    "T5GemmaBackbone": (lambda: T5_GEMMA, two_sided),
    "XLMRobertaBackbone": (lambda: ENCODER, ids),
    "XLNetBackbone": (lambda: ENCODER, segments),
    "WhisperBackbone": (
        lambda: ENCODER | {"num_mels": 8, "max_encoder_sequence_length": 16, "max_decoder_sequence_length": 8},
        lambda: (
            {"encoder_features": np.ones((2, 16, 8), "float32")}
            | ids(name="decoder_token_ids", mask="decoder_padding_mask")
        ),
    ),
    "MoonshineBackbone": (
        lambda: (
            {"vocabulary_size": 10, "filter_dim": 8, "encoder_num_layers": 1, "decoder_num_layers": 1, "hidden_dim": 8}
            | {"intermediate_dim": 16, "encoder_num_heads": 2, "decoder_num_heads": 2}
        ),
        lambda: (
            {
                "encoder_input_values": np.ones((2, 1600, 1), "float32"),
                "encoder_padding_mask": np.ones((2, 1600), "bool"),
            }
            | ids(name="decoder_token_ids", mask="decoder_padding_mask")
        ),
    ),
    "CLIPBackbone": (
        lambda: {
            "vision_encoder": M.CLIPVisionEncoder(**CLIP_VISION, name="vision_encoder"),
            "text_encoder": M.CLIPTextEncoder(**CLIP_TEXT, name="text_encoder"),
            "projection_dim": 8,
        },
        lambda: {"images": images(16), "token_ids": ids()["token_ids"]},
    ),
    "SigLIPBackbone": (
        lambda: {
            "vision_encoder": M.SigLIPVisionEncoder(**CLIP_VISION, name="vision_encoder"),
            "text_encoder": M.SigLIPTextEncoder(**CLIP_TEXT, name="text_encoder"),
        },
        lambda: {"images": images(16), "token_ids": ids()["token_ids"]},
    ),
    "PaliGemmaBackbone": (
        lambda: (
            DECODER
            | {
                "head_dim": 4,
                "image_size": 16,
                "vit_patch_size": 4,
                "vit_num_heads": 2,
                "vit_hidden_dim": 8,
                "vit_num_layers": 2,
            }
        ),
        lambda: {"images": images(16), "response_mask": np.zeros((2, 5), "int32")} | ids(),
    ),
    "StableDiffusion3Backbone": (stable_diffusion, stable_diffusion_inputs),
    "SAMBackbone": (sam, sam_inputs),
    "CSPNetBackbone": (
        lambda: (
            {"stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1, 1, 1]}
            | {
                "stackwise_strides": [1, 2, 2],
                "stackwise_num_filters": [8, 16, 16],
                "block_type": "dark_block",
                "stage_type": "dark",
            }
        ),
        images,
    ),
    "DINOV2Backbone": (
        lambda: VIT | {"intermediate_dim": 16, "image_shape": (16, 16, 3), "position_embedding_shape": (16, 16)},
        lambda: images(16),
    ),
    "DINOV3Backbone": (lambda: VIT | {"intermediate_dim": 16, "image_shape": (16, 16, 3)}, lambda: images(16)),
    "DeepLabV3Backbone": (
        lambda: {
            "image_encoder": resnet(),
            "low_level_feature_key": "P2",
            "spatial_pyramid_pooling_key": "P4",
            "dilation_rates": [6, 12, 18],
            "upsampling_size": 4,
            "image_shape": (32, 32, 3),
        },
        images,
    ),
    "DeiTBackbone": (lambda: VIT | {"intermediate_dim": 16, "image_shape": (16, 16, 3)}, lambda: images(16)),
    "DenseNetBackbone": (
        lambda: {"stackwise_num_repeats": [1, 1], "growth_rate": 4, "image_shape": (32, 32, 3)},
        images,
    ),
    "EfficientNetBackbone": (
        lambda: {
            "stackwise_kernel_sizes": [3, 3],
            "stackwise_num_repeats": [1, 1],
            "stackwise_input_filters": [8, 8],
            "stackwise_output_filters": [8, 16],
            "stackwise_expansion_ratios": [1, 4],
            "stackwise_squeeze_and_excite_ratios": [0.0, 0.25],
            "stackwise_strides": [1, 2],
            "stackwise_block_types": ["fused", "unfused"],
            "stackwise_force_input_filters": [0, 0],
            "stackwise_nores_option": [False, False],
            "stackwise_width_coefficients": [1.0, 1.0],
            "stackwise_depth_coefficients": [1.0, 1.0],
        },
        images,
    ),
    "HGNetV2Backbone": (
        lambda: {
            "depths": [1, 1],
            "embedding_size": 8,
            "hidden_sizes": [16, 16],
            "stem_channels": [3, 8, 8],
            "hidden_act": "relu",
            "use_learnable_affine_block": False,
            "stackwise_stage_filters": [(8, 8, 16, 1, 1, 3), (16, 8, 16, 1, 1, 3)],
            "apply_downsample": [False, True],
            "use_lightweight_conv_block": [False, False],
            "image_shape": (32, 32, 3),
        },
        images,
    ),
    "MiTBackbone": (
        lambda: {
            "layerwise_depths": [1, 1],
            "num_layers": 2,
            "layerwise_num_heads": [1, 2],
            "layerwise_sr_ratios": [2, 1],
            "max_drop_path_rate": 0.1,
            "layerwise_patch_sizes": [7, 3],
            "layerwise_strides": [4, 2],
            "hidden_dims": [4, 8],
            "image_shape": (32, 32, 3),
        },
        images,
    ),
    "MobileNetBackbone": (
        lambda: {
            "stackwise_expansion": [[8, 16], [16]],
            "stackwise_num_blocks": [2, 1],
            "stackwise_num_filters": [[8, 8], [16]],
            "stackwise_kernel_size": [[3, 3], [5]],
            "stackwise_num_strides": [[2, 1], [2]],
            "stackwise_se_ratio": [[None, None], [0.25]],
            "stackwise_activation": [["relu", "relu"], ["hard_swish"]],
            "stackwise_padding": [[1, 1], [2]],
            "output_num_filters": 16,
            "depthwise_filters": 8,
            "depthwise_stride": 2,
            "depthwise_residual": False,
            "last_layer_filter": 16,
            "squeeze_and_excite": 0.5,
            "input_num_filters": 8,
            "image_shape": (32, 32, 3),
        },
        images,
    ),
    "MobileNetV5Backbone": (
        lambda: {
            "stackwise_block_types": [["er"], ["uir", "uir"]],
            "stackwise_num_blocks": [1, 2],
            "stackwise_num_filters": [[8], [16, 16]],
            "stackwise_strides": [[2], [2, 1]],
            "stackwise_act_layers": [["relu"], ["relu", "relu"]],
            "stackwise_exp_ratios": [[4.0], [6.0, 6.0]],
            "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
            "stackwise_dw_kernel_sizes": [[0], [5, 5]],
            "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
            "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
            "stackwise_exp_kernel_sizes": [[3], [0, 0]],
            "stackwise_pw_kernel_sizes": [[1], [0, 0]],
            "stackwise_num_heads": [[0], [0, 0]],
            "stackwise_key_dims": [[0], [0, 0]],
            "stackwise_value_dims": [[0], [0, 0]],
            "stackwise_kv_strides": [[0], [0, 0]],
            "stackwise_use_cpe": [[False], [False, False]],
            "use_msfa": False,
            "image_shape": (32, 32, 3),
        },
        images,
    ),
    "ResNetBackbone": (lambda: RESNET, images),
    "ResNetV2Backbone": (lambda: RESNET | {"use_pre_activation": True, "block_type": "bottleneck_block"}, images),
    "RetinaNetBackbone": (
        lambda: {
            "image_encoder": resnet(
                stackwise_num_filters=[64] * 4, stackwise_num_blocks=[1] * 4, stackwise_num_strides=[1, 2, 2, 2]
            ),
            "min_level": 3,
            "max_level": 6,
            "use_p5": False,
            "image_shape": (64, 64, 3),
        },
        lambda: images(64),
    ),
    "SegFormerBackbone": (
        lambda: {"image_encoder": M.MiTBackbone(**BACKBONES["MiTBackbone"][0]()), "projection_filters": 16},
        images,
    ),
    "SwinTransformerBackbone": (
        lambda: {"image_shape": (32, 32, 3), "embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4},
        images,
    ),
    "VGGBackbone": (
        lambda: {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8], "image_shape": (32, 32, 3)},
        images,
    ),
    "ViTBackbone": (lambda: VIT | {"mlp_dim": 16, "image_shape": (16, 16, 3)}, lambda: images(16)),
    "ViTDetBackbone": (
        lambda: (
            {"image_shape": (16, 16, 3), "patch_size": 2, "hidden_size": 4, "num_layers": 2, "num_heads": 2}
            | {
                "global_attention_layer_indices": [1],
                "intermediate_dim": 16,
                "num_output_channels": 2,
                "window_size": 2,
            }
        ),
        lambda: images(16),
    ),
    "XceptionBackbone": (
        lambda: {
            "stackwise_conv_filters": [[8, 16], [16, 16]],
            "stackwise_pooling": [True, False],
            "image_shape": (32, 32, 3),
        },
        images,
    ),
}
ALIASES = {"Gemma2Backbone": "GemmaBackbone", "ResNetV2Backbone": "ResNetBackbone"}


def make(name):
    """A small backbone and a batch for it."""
    arguments, inputs = BACKBONES[name]
    return getattr(M, ALIASES.get(name, name)), arguments(), inputs()
