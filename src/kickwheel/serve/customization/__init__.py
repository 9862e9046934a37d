"""/v1/customization/jobs: NeMo Customizer's door to the same jobs as /v1/fine_tuning/jobs.

asked    the three shapes in which a job is asked for
told     a job as Customizer's clients read it
routes   who asks and is told
"""

from kickwheel.serve.customization.asked import CustomizationBody
from kickwheel.serve.customization.routes import ORDERS, customization_routes

__all__ = ["ORDERS", "CustomizationBody", "customization_routes"]
