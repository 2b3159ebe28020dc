"""Pictures of what models see, do and say, by matplotlib."""

from kerax.visualization.activations import attention_scores as attention_scores
from kerax.visualization.activations import layer_outputs as layer_outputs
from kerax.visualization.activations import plot_attention_maps as plot_attention_maps
from kerax.visualization.activations import plot_feature_maps as plot_feature_maps
from kerax.visualization.drawing import draw_bounding_boxes as draw_bounding_boxes
from kerax.visualization.drawing import draw_segmentation_masks as draw_segmentation_masks
from kerax.visualization.galleries import plot_bounding_box_gallery as plot_bounding_box_gallery
from kerax.visualization.galleries import plot_image_gallery as plot_image_gallery
from kerax.visualization.galleries import plot_segmentation_mask_gallery as plot_segmentation_mask_gallery
from kerax.visualization.predictions import confusion_matrix as confusion_matrix
from kerax.visualization.predictions import plot_confusion_matrix as plot_confusion_matrix
from kerax.visualization.predictions import plot_prediction_gallery as plot_prediction_gallery
