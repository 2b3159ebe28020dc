"""Pictures of what models see, do and say, by matplotlib."""

from kerax.visualization.activations import attention_scores, layer_outputs, plot_attention_maps, plot_feature_maps
from kerax.visualization.drawing import draw_bounding_boxes, draw_segmentation_masks
from kerax.visualization.galleries import plot_bounding_box_gallery, plot_image_gallery, plot_segmentation_mask_gallery
from kerax.visualization.predictions import confusion_matrix, plot_confusion_matrix, plot_prediction_gallery

__all__ = [
    "attention_scores",
    "confusion_matrix",
    "draw_bounding_boxes",
    "draw_segmentation_masks",
    "layer_outputs",
    "plot_attention_maps",
    "plot_bounding_box_gallery",
    "plot_confusion_matrix",
    "plot_feature_maps",
    "plot_image_gallery",
    "plot_prediction_gallery",
    "plot_segmentation_mask_gallery",
]
